"""Reviews: questions about access and identity that are answered at once and never stored."""

from . import errors, rbac
from .auth import User
from .errors import Json
from .request import Request
from .state import Cluster


def answer(cluster: Cluster, request: Request) -> Json:
    """The review of the request's body with its status filled in."""
    review = request.decode()
    spec = review.get("spec") or {}
    review.setdefault("metadata", {"creationTimestamp": None})
    match request.plural:
        case "selfsubjectaccessreviews":
            review["status"] = rbac.review(cluster.authorizer, request.user, spec)
        case "subjectaccessreviews" | "localsubjectaccessreviews":
            user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
            review["status"] = rbac.review(cluster.authorizer, user, spec)
        case "selfsubjectrulesreviews":
            namespace = spec.get("namespace", "")
            review["status"] = rbac.rules_review(cluster.authorizer, request.user, namespace)
        case "selfsubjectreviews":
            review["status"] = {"userInfo": _info(request.user)}
        case "tokenreviews":
            known = cluster.authenticator.lookup(spec.get("token", ""))
            review["status"] = {"authenticated": known is not None}
            if known is not None:
                review["status"]["user"] = _info(known)
        case _:
            raise errors.no_such_path()
    return review


def _info(user: User) -> Json:
    info: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info
