"""One API request: its path taken apart, its parameters and its body."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
import yaml
from attrs import define, field

from . import errors, wire
from .auth import ANONYMOUS, User
from .errors import Json

_JSON_TYPES = ("", "application/json", "application/apply-patch+yaml", "application/yaml")


@define(slots=True)
class Request:
    """An HTTP request and what of the API it addresses (empty ``plural``: not a resource).

    ``sound`` notes that the decoded object passed its schema as it came, before defaults.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    user: User = ANONYMOUS
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watching: bool = False
    warnings: list[str] = field(factory=list)
    wire: "wire.Decoder | None" = None
    sound: bool = False

    @property
    def verb(self) -> str:
        """The API verb, as RBAC names it."""
        match self.method:
            case "GET" | "HEAD":
                if self.name:
                    return "watch" if self.watching else "get"
                return "watch" if self.watching else "list"
            case "POST":
                return "create"
            case "PUT":
                return "update"
            case "PATCH":
                return "patch"
            case "DELETE":
                return "delete" if self.name else "deletecollection"
        return self.method.lower()

    @property
    def warning_header(self) -> str:
        """The warnings as the header `Warning` carries them."""
        escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in self.warnings)
        return ", ".join(f'299 - "{text}"' for text in escaped)

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun", "") == "All"

    @property
    def content_type(self) -> str:
        """The body's media type without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def manager(self) -> str:
        """The field manager: given, or the first word of the user agent."""
        return self.query.get("fieldManager") or self.headers.get("user-agent", "unknown").split("/")[0][:128]

    def flag(self, name: str) -> bool:
        """A boolean parameter."""
        return self.query.get(name, "").lower() in ("true", "1")

    def decode(self) -> Json:
        """The body as an object; raises 400 or 415."""
        if self.content_type == wire.MEDIA_TYPE and self.wire is not None:
            return self.wire.decode(self.body)
        if self.content_type not in _JSON_TYPES and not self.content_type.endswith("+json"):
            raise errors.unsupported_media_type(self.content_type, ["application/json", "application/yaml"])
        value = self.decode_any()
        if not isinstance(value, dict):
            raise errors.bad_request("the body of the request must be an object")
        return value

    def decode_any(self) -> Any:
        """The body's JSON or YAML value; raises 400."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            if "yaml" not in self.content_type:
                raise errors.bad_request(f"couldn't parse the body as JSON: {error}") from error
        try:
            return yaml.safe_load(self.body)
        except yaml.YAMLError as error:
            raise errors.bad_request(f"error parsing YAML: {error}") from error


def parse(method: str, path: str, query: str, headers: Mapping[str, str]) -> Request:
    """Take a request's path apart."""
    request = Request(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)
    parts = [unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        request.version, rest = parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        request.group, request.version, rest = parts[1], parts[2], parts[3:]
    else:
        return request
    request.watching = request.flag("watch")
    if rest[0] == "watch" and len(rest) > 1:
        request.watching, rest = True, rest[1:]
    if rest[0] == "namespaces" and len(rest) > 2 and not (not request.group and rest[2] in ("status", "finalize")):
        request.namespace, rest = rest[1], rest[2:]
    request.plural = rest[0]
    request.name = rest[1] if len(rest) > 1 else ""
    request.subresource = "/".join(rest[2:])
    if not request.group and request.plural == "namespaces" and request.name:
        request.namespace = request.name
    return request
