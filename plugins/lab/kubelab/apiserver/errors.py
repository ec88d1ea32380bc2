"""API errors: each becomes a ``metav1.Status`` with the code, reason and message that kube-apiserver uses."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

Json = dict[str, Any]


@frozen
class FieldProblem:
    """One wrong field of an object: ``reason`` is a metav1 cause type, ``path`` reads like ``spec.ports[0]``."""

    reason: str
    path: str
    detail: str

    @classmethod
    def required(cls, path: str, detail: str = "") -> "FieldProblem":
        """A required field is missing."""
        return cls("FieldValueRequired", path, f"Required value: {detail}" if detail else "Required value")

    @classmethod
    def invalid(cls, path: str, value: object, detail: str) -> "FieldProblem":
        """A field's value is not valid."""
        return cls("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {detail}")

    @classmethod
    def wrong_type(cls, path: str, value: object, expected: str) -> "FieldProblem":
        """A field's value has the wrong JSON type."""
        actual = json_type(value)
        text = f'Invalid value: "{actual}": {path} in body must be of type {expected}: "{actual}"'
        return cls("FieldValueTypeInvalid", path, text)

    @classmethod
    def unsupported(cls, path: str, value: object, allowed: Sequence[object]) -> "FieldProblem":
        """A field's value isn't one of an enumeration."""
        names = ", ".join(_shown(v) for v in allowed)
        return cls(
            "FieldValueNotSupported", path, f"Unsupported value: {_shown(value)}: supported values: {names}"
        )

    @classmethod
    def forbidden(cls, path: str, detail: str) -> "FieldProblem":
        """A field must not be set, or not be changed."""
        return cls("FieldValueForbidden", path, f"Forbidden: {detail}")

    @classmethod
    def duplicate(cls, path: str, value: object) -> "FieldProblem":
        """A list that is a set or a map has a value twice."""
        return cls("FieldValueDuplicate", path, f"Duplicate value: {_shown(value)}")

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def json_type(value: object) -> str:
    """The JSON Schema name of a Python value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _shown(value: object) -> str:
    match value:
        case str():
            return f'"{value}"'
        case bool():
            return str(value).lower()
        case None:
            return "null"
        case dict() | list():
            return f'"{json_type(value)}"' if isinstance(value, dict) else "[]" if not value else '"array"'
        case _:
            return str(value)


@frozen
class ApiError(Exception):
    """A request that fails; ``status()`` is the body of the answer."""

    code: int
    reason: str
    message: str
    details: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(factory=dict)

    def status(self) -> Json:
        """The ``metav1.Status`` of the error."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            body["details"] = dict(self.details)
        body["code"] = self.code
        return body


def qualified(plural: str, group: str) -> str:
    """``pods`` or ``deployments.apps``: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    """The object doesn't exist."""
    return ApiError(
        404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(plural, group, name)
    )


def no_such_path() -> ApiError:
    """The URL isn't served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def needs_kubelet(subresource: str, namespace: str, name: str, instead: str = "") -> ApiError:
    """A subresource of pods that a kubelet serves; ``instead`` is a command that does the same."""
    advice = f": run `{instead} {namespace}/{name}` instead" if instead else ""
    return ApiError(501, "NotImplemented", f"this API server does not serve {subresource} of pods{advice}", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """An object of this name exists already."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    """The write was made from an older version of the object, or its precondition failed."""
    cause = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {cause}'
    return ApiError(409, "Conflict", message, _details(plural, group, name))


def invalid(kind: str, group: str, name: str, problems: Sequence[FieldProblem]) -> ApiError:
    """The object fails validation (422), each problem a cause."""
    listed = list(dict.fromkeys(problems))
    text = str(listed[0]) if len(listed) == 1 else "[" + ", ".join(str(p) for p in listed) + "]"
    causes = [{"reason": p.reason, "message": p.detail, "field": p.path} for p in listed]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    """The request is malformed."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """The token is not valid."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """The caller is not allowed to do this, or admission rejects it."""
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", _details(plural, group, name))


def method_not_allowed() -> ApiError:
    """The verb isn't supported on this resource."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(given: str, accepted: Sequence[str]) -> ApiError:
    """The body has a media type that isn't supported."""
    message = (
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    )
    return ApiError(415, "UnsupportedMediaType", message, {"given": given} if given else None)


def expired(message: str) -> ApiError:
    """The resourceVersion or continue token is older than the kept history (410)."""
    return ApiError(410, "Expired", message)


def too_many_requests(retry_after: int) -> ApiError:
    """The server asks the client to slow down; ``retry_after`` in seconds."""
    details = {"retryAfterSeconds": retry_after}
    message = "the server has received too many requests and has asked us to try again later"
    return ApiError(429, "TooManyRequests", message, details, {"Retry-After": str(retry_after)})


def disruption_budget(budget: str) -> ApiError:
    """An eviction that a PodDisruptionBudget doesn't allow now."""
    why = f"The disruption budget {budget} allows no more pods to be evicted now."
    details = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details)


def _details(plural: str, group: str, name: str) -> Json:
    details: Json = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = plural
    return details
