"""Role-based access control: evaluates Roles and ClusterRoles through their bindings."""

from collections.abc import Iterator, Mapping

from attrs import frozen

from .auth import User
from .errors import Json
from .store import Store

_GROUP = "rbac.authorization.k8s.io"
_COLLECTIONS = tuple(f"{n}.{_GROUP}" for n in ("roles", "clusterroles", "rolebindings", "clusterrolebindings"))
MASTERS = "system:masters"


@frozen
class Access:
    """What is asked for: a verb on a resource, or on a path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def describe(self, user: User) -> str:
        """The refusal in kube-apiserver's words."""
        if self.path:
            return f'User "{user.name}" cannot {self.verb} path "{self.path}"'
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return f'User "{user.name}" cannot {self.verb} resource "{what}" in API group "{self.group}" {where}'


@frozen
class Verdict:
    """Whether access is granted, and by which binding."""

    allowed: bool
    reason: str = ""


class Authorizer:
    """Answers access questions; a user's rules are cached until an RBAC object changes."""

    def __init__(self, store: Store, enforce: bool) -> None:
        self._store = store
        self._enforce = enforce
        self._seen: tuple[int, ...] = ()
        self._cache: dict[tuple[User, str], list[tuple[Json, str]]] = {}

    def check(self, user: User, access: Access) -> Verdict:
        """Whether ``user`` may do it."""
        if MASTERS in user.groups:
            return Verdict(True)
        if not self._enforce:
            return Verdict(True)
        for rule, source in self.rules(user, access.namespace):
            if _grants(rule, access):
                return Verdict(True, f"RBAC: allowed by {source}")
        return Verdict(False)

    def rules(self, user: User, namespace: str) -> list[tuple[Json, str]]:
        """The rules that bind a user in a namespace (empty: cluster wide), each with its binding's name."""
        state = tuple(self._store.collection(name).last for name in _COLLECTIONS)
        if state != self._seen:
            self._cache.clear()
            self._seen = state
        key = (user, namespace)
        if key not in self._cache:
            self._cache[key] = list(self._collect(user, namespace))
        return self._cache[key]

    def _collect(self, user: User, namespace: str) -> Iterator[tuple[Json, str]]:
        bindings = self._store.collection(f"clusterrolebindings.{_GROUP}").objects
        for record in list(bindings.values()):
            binding = record.load()
            if _binds(binding, user, ""):
                source = f'ClusterRoleBinding "{record.name}" of {_referred(binding)}'
                for rule in self._role_rules(binding, ""):
                    yield rule, source
        if not namespace:
            return
        for record in list(self._store.collection(f"rolebindings.{_GROUP}").objects.values()):
            if record.namespace != namespace:
                continue
            binding = record.load()
            if _binds(binding, user, namespace):
                source = f'RoleBinding "{record.name}/{namespace}" of {_referred(binding)}'
                for rule in self._role_rules(binding, namespace):
                    yield rule, source

    def _role_rules(self, binding: Json, namespace: str) -> list[Json]:
        reference = binding["roleRef"]
        if reference["kind"] == "Role":
            key = (namespace, reference["name"])
            record = self._store.collection(f"roles.{_GROUP}").objects.get(key)
        else:
            record = self._store.collection(f"clusterroles.{_GROUP}").objects.get(("", reference["name"]))
        if record is None:
            return []
        role = record.load()
        rules = list(role.get("rules") or [])
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
            wanted = selector.get("matchLabels") or {}
            for other in self._store.collection(f"clusterroles.{_GROUP}").objects.values():
                if wanted and all(other.labels.get(k) == v for k, v in wanted.items()):
                    rules += other.load().get("rules") or []
        return rules


def _referred(binding: Json) -> str:
    role, subject = binding["roleRef"], binding["subjects"][0]
    return f'{role["kind"]} "{role["name"]}" to {subject.get("kind")} "{subject.get("name")}"'


def _binds(binding: Json, user: User, namespace: str) -> bool:
    return any(_is_subject(s, user, namespace) for s in binding.get("subjects") or [])


def _is_subject(subject: Mapping[str, object], user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return user.name == f"system:serviceaccount:{home}:{subject['name']}"
    return False


def _grants(rule: Json, access: Access) -> bool:
    verbs = rule.get("verbs") or []
    if "*" not in verbs and access.verb not in verbs:
        return False
    if access.path:
        return any(_path_matches(p, access.path) for p in rule.get("nonResourceURLs") or [])
    groups = rule.get("apiGroups") or []
    if "*" not in groups and access.group not in groups:
        return False
    if not _resource_matches(rule.get("resources") or [], access):
        return False
    names = rule.get("resourceNames")
    return not names or access.name in names


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _resource_matches(resources: list[str], access: Access) -> bool:
    wanted = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    if "*" in resources or wanted in resources:
        return True
    return bool(access.subresource) and f"*/{access.subresource}" in resources


def review(authorizer: Authorizer, user: User, spec: Json) -> Json:
    """The status of a (Self)SubjectAccessReview."""
    wanted = spec.get("resourceAttributes")
    if wanted is not None:
        group = wanted.get("group", "")
        access = Access(
            wanted.get("verb", ""),
            group,
            wanted.get("resource", ""),
            wanted.get("subresource", ""),
            wanted.get("namespace", ""),
            wanted.get("name", ""),
        )
    else:
        path = spec.get("nonResourceAttributes") or {}
        access = Access(path.get("verb", ""), path=path.get("path", ""))
    verdict = authorizer.check(user, access)
    status: Json = {"allowed": verdict.allowed}
    if verdict.reason:
        status["reason"] = verdict.reason
    return status


def rules_review(authorizer: Authorizer, user: User, namespace: str) -> Json:
    """The status of a SelfSubjectRulesReview."""
    found = [rule for rule, _ in authorizer.rules(user, namespace)]
    if MASTERS in user.groups:
        found.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        found.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    return {
        "resourceRules": [r for r in found if r.get("resources")],
        "nonResourceRules": [
            {"verbs": r["verbs"], "nonResourceURLs": r["nonResourceURLs"]}
            for r in found
            if r.get("nonResourceURLs")
        ],
        "incomplete": False,
    }
