"""Requests, results and errors of the Container Network Interface, versions 0.3.0 to 1.1.0."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from ovnkit.api.errors import OvnkitError
from ovnkit.api.text import parse_json, quoted
from ovnkit_cni.attachments import Attachment

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
REQUEST_TIMEOUT = 120.0
"""Seconds a request may take altogether, as upstream."""

_COMMANDS = {
    "ADD": "0.3.0",
    "DEL": "0.3.0",
    "CHECK": "0.4.0",
    "GC": "1.1.0",
    "STATUS": "1.1.0",
    "VERSION": "0.3.0",
}
_CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_FORBIDDEN = re.compile(r"[/:%\s\x00-\x1f\x7f]")
"""Not in an interface's name; with `%d` the kernel would choose another name."""

# Error codes of the specification; from 100 on they are ours.
INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODE_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
INTERNAL = 100
CHECK_FAILED = 101
BAD_POD = 102


class CniError(OvnkitError):
    """An error that the container runtime is told: code of the specification or ours, and one line."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_json(self, version: str = VERSIONS[-1]) -> dict[str, Any]:
        """The error object."""
        found: dict[str, Any] = {"cniVersion": version, "code": self.code, "msg": self.message}
        if self.details:
            found["details"] = self.details
        return found


@frozen
class Request:
    """A request of the runtime, checked. `namespace`, `pod` and `uid` may be empty except for ADD."""

    command: str
    sandbox: str
    netns: str
    ifname: str
    namespace: str
    pod: str
    uid: str
    version: str
    config: Mapping[str, Any] = field(eq=False)
    deadline: float = 0.0

    @property
    def pod_key(self) -> str:
        """`namespace/name` of the pod."""
        return f"{self.namespace}/{self.pod}"

    @property
    def definition(self) -> str:
        """The NetworkAttachmentDefinition of another network than the cluster's; empty for the cluster network."""
        topology = self.config.get("topology")
        return str(
            self.config.get("netAttachDefName") or (f"{self.config['name']}/{topology}" if topology else "")
        )

    @property
    def attachment(self) -> Attachment:
        """What the request is about. Another network may be named as the cluster's is: its definition tells."""
        network = f"definition {self.definition}" if self.definition else str(self.config["name"])
        return Attachment(network, self.sandbox, self.ifname)

    @property
    def left(self) -> float:
        """Seconds until the request must be answered."""
        return max(0.0, self.deadline - time.monotonic())


def decode(body: bytes) -> tuple[Mapping[str, str], bytes]:
    """Environment and configuration of a posted request; raises CniError."""
    try:
        found = parse_json(body)
        env, config = found["env"], base64.b64decode(found.get("config") or "", validate=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CniError(DECODE_FAILURE, f"the request is not what the plugin sends: {error}") from None
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise CniError(DECODE_FAILURE, "the request's env is not a map of strings")
    return env, config


def parse(env: Mapping[str, str], raw_config: bytes) -> Request:
    """The request in environment and configuration; raises CniError."""
    command = env.get("CNI_COMMAND", "")
    if command not in _COMMANDS:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND {command!r} is not one of {', '.join(_COMMANDS)}")
    config = _config(raw_config)
    version = str(config.get("cniVersion") or "0.3.0")
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not one of {', '.join(VERSIONS)}")
    if VERSIONS.index(version) < VERSIONS.index(_COMMANDS[command]):
        raise CniError(INCOMPATIBLE_VERSION, f"{command} does not exist in cniVersion {version}")
    about_pod = command in ("ADD", "DEL", "CHECK")
    arguments = _arguments(env.get("CNI_ARGS", ""))
    request = Request(
        command,
        _sandbox(env) if about_pod else "",
        env.get("CNI_NETNS", ""),
        _ifname(env) if about_pod else "",
        arguments.get("K8S_POD_NAMESPACE", ""),
        arguments.get("K8S_POD_NAME", ""),
        arguments.get("K8S_POD_UID", ""),
        version,
        config,
        time.monotonic() + REQUEST_TIMEOUT,
    )
    if command == "ADD":
        _check_add(request)
    if command in ("ADD", "CHECK") and not request.netns.startswith("/"):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS {request.netns!r} is not an absolute path")
    return request


def _config(raw: bytes) -> Mapping[str, Any]:
    try:
        found = parse_json(raw)
    except ValueError as error:
        raise CniError(DECODE_FAILURE, f"the network configuration is {error}") from None
    if not isinstance(found, dict):
        raise CniError(DECODE_FAILURE, "the network configuration is not a JSON object")
    name = found.get("name")
    if not isinstance(name, str) or not _NETWORK_NAME.fullmatch(name):
        raise CniError(INVALID_CONFIG, f"the network's name {quoted(name)} is missing or malformed")
    mtu = found.get("mtu", 0)
    if not isinstance(mtu, int) or isinstance(mtu, bool) or not (mtu == 0 or 576 <= mtu <= 65535):
        raise CniError(INVALID_CONFIG, f"mtu {quoted(mtu)} is not a number from 576 to 65535")
    return found


def _arguments(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, text.split(";")):
        key, separator, value = part.partition("=")
        if not separator:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS: {part!r} is not KEY=VALUE")
        found[key] = value
    return found


def _sandbox(env: Mapping[str, str]) -> str:
    sandbox = env.get("CNI_CONTAINERID", "")
    if not _CONTAINER_ID.fullmatch(sandbox):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_CONTAINERID {sandbox!r} is missing or malformed")
    return sandbox


def _ifname(env: Mapping[str, str]) -> str:
    name = env.get("CNI_IFNAME", "")
    if not 0 < len(name.encode()) < 16 or name in (".", "..") or _FORBIDDEN.search(name):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME {name!r} is missing or not an interface name")
    return name


def _check_add(request: Request) -> None:
    for key, value in (("K8S_POD_NAMESPACE", request.namespace), ("K8S_POD_NAME", request.pod)):
        if not _DNS_NAME.fullmatch(value) or len(value) > 253:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS: {key} {value!r} is not a valid Kubernetes name")
