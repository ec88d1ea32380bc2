"""What the Kubernetes API answers when it doesn't do what was asked, as exceptions by meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnkit.api.errors import OvnkitError
from ovnkit.api.text import parse_json


class KubeError(OvnkitError):
    """A request failed. `code` is the HTTP status (0 without an answer), `reason` that of `metav1.Status`.

    `retry_after` is the server's wish in seconds, None when it has none. `details` are those of the Status.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.details = details or {}
        self.retry_after = retry_after

    def __str__(self) -> str:
        what = " ".join(str(part) for part in (self.code, self.reason) if part)
        return f"{what}: {self.message}" if what else self.message


class Unauthorized(KubeError):
    """Our credentials are missing, wrong or expired."""


class Forbidden(KubeError):
    """Our credentials don't allow this."""


class NotFound(KubeError):
    """The object, or the resource as a whole, doesn't exist."""

    @property
    def of_object(self) -> bool:
        """Whether one object is missing, rather than its resource or subresource."""
        return bool(self.details.get("name"))


class Conflict(KubeError):
    """The object is not in the version the request was made for, or exists already."""


class Gone(KubeError):
    """The resource version or continue token is too old."""


class Unprocessable(KubeError):
    """The object is invalid (422), or the request is malformed (400)."""


class TooManyRequests(KubeError):
    """The server wants us to slow down; see `retry_after`."""


class ServerUnavailable(KubeError):
    """The server can't be reached, broke off, or says that it (or a proxy before it) can't work now."""


class ServerFailed(KubeError):
    """The server failed over this request (500): a webhook that is down, a bug. Others may well succeed."""


_BY_CODE: dict[int, type[KubeError]] = {
    400: Unprocessable,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Unprocessable,
    429: TooManyRequests,
}


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; the HTTP-date form, which no API server uses, counts as none."""
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def error_from(code: int, headers: Mapping[str, str], body: bytes) -> KubeError:
    """The exception for a failed answer. `body` is a metav1.Status, or anything (a proxy's page)."""
    try:
        status = parse_json(body)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": body[:200].decode(errors="replace").strip()}
    return error_from_status(status, code=code, retry_after=_seconds(headers))


def error_from_status(
    status: Mapping[str, Any], *, code: int | None = None, retry_after: float | None = None
) -> KubeError:
    """The exception for a metav1.Status, as it also comes as the object of a watch's ERROR event."""
    code = code or int(status.get("code") or 0)
    details = status.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    default: type[KubeError] = KubeError
    if code >= 500:
        # a ServerTimeout is a 500 as well, and comes with the time to wait
        default = ServerFailed if code == 500 and retry_after is None else ServerUnavailable
    return _BY_CODE.get(code, default)(
        status.get("message") or "no message",
        code=code,
        reason=status.get("reason") or "",
        details=details,
        retry_after=retry_after,
    )
