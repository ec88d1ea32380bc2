"""What is served: built-in resources and those of CRDs, by group, version and plural."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from .builtin_kinds import BUILTINS, EXTRA_MODELS, Builtin
from .builtin_schema import BuiltinSchemas
from .errors import Json
from .schema import Compiler, Node, finish_list_keys

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@frozen(eq=False)
class Resource:
    """One served resource version.

    ``collection`` is where its objects are stored; several versions of a resource share one.
    ``storage_version`` is the ``apiVersion`` that stored objects carry. ``name_schema`` is what a definition says
    of ``metadata.name``.
    """

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    schema: Node
    component: str
    collection: str
    storage_version: str
    list_kind: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _VERBS
    columns: tuple[Mapping[str, Any], ...] | None = None
    scale: Mapping[str, str] | None = None
    selectable: tuple[str, ...] = ()
    custom: bool = False
    openapi: Json | None = None
    name_schema: Node | None = None

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        """Whether ``status`` is written through its own subresource only."""
        return "status" in self.subresources


class Registry:
    """Finds resources by their path; CRDs come and go, built-ins stay."""

    def __init__(self) -> None:
        schemas = BuiltinSchemas()
        for builtin in BUILTINS:
            schemas.add(builtin.model)
        self.extra = {model: schemas.add(model) for model in EXTRA_MODELS}
        self.components = schemas.components
        self._compiler = Compiler(self.components)
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self.generation = 0
        for builtin in BUILTINS:
            resource = self._builtin(builtin)
            self._resources[resource.group, resource.version, resource.plural] = resource

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource at ``/apis/group/version/plural``."""
        return self._resources.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an object's apiVersion and kind."""
        for resource in self._resources.values():
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        return None

    def schema_of(self, api_version: str, kind: str) -> Node | None:
        """The schema of a kind, also of those that exist in requests only (Eviction, TokenRequest)."""
        resource = self.by_kind(api_version, kind)
        if resource is not None:
            return resource.schema
        for component in self.extra.values():
            if component.rsplit(".", 1)[-1] == kind:
                return self._compiler.ref(component)
        return None

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._resources.values()))

    def versions(self) -> dict[str, list[str]]:
        """Groups with their served versions, the preferred first."""
        groups: dict[str, list[str]] = {}
        for group, version, _ in self._resources:
            listed = groups.setdefault(group, [])
            if version not in listed:
                listed.append(version)
        return {g: sorted(v, key=version_rank) for g, v in groups.items()}

    def of(self, group: str, version: str) -> list[Resource]:
        """The resources of one group and version."""
        return [r for r in self._resources.values() if (r.group, r.version) == (group, version)]

    def replace_custom(self, group: str, plural: str, served: Sequence[Resource]) -> None:
        """Serve these versions of a CRD's resource, and no others."""
        for key in [k for k, r in self._resources.items() if r.custom and (k[0], k[2]) == (group, plural)]:
            del self._resources[key]
        for resource in served:
            self._resources[resource.group, resource.version, resource.plural] = resource
        self.generation += 1

    def _builtin(self, builtin: Builtin) -> Resource:
        component = BuiltinSchemas.name_of(builtin.model)
        schema = self._compiler.ref(component)
        finish_list_keys(schema)
        collection = f"{builtin.plural}.{builtin.group}" if builtin.group else builtin.plural
        event = builtin.kind == "Event"
        api_version = f"{builtin.group}/{builtin.version}" if builtin.group else builtin.version
        return Resource(
            builtin.group,
            builtin.version,
            builtin.plural,
            builtin.kind.lower(),
            builtin.kind,
            builtin.namespaced,
            schema,
            component,
            "events" if event else collection,
            "v1" if event else api_version,
            f"{builtin.kind}List",
            builtin.short,
            builtin.categories,
            builtin.subresources,
            ("create",) if builtin.create_only else _VERBS,
            scale=_WORKLOAD_SCALE if "scale" in builtin.subresources else None,
        )


_WORKLOAD_SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".spec.selector",
}


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta1, v1alpha1, others by name."""
    head, stage, number = version[1:], 0, "0"
    for i, word in ((1, "beta"), (2, "alpha")):
        if word in head:
            head, _, number = head.partition(word)
            stage = i
    if version.startswith("v") and head.isdigit() and number.isdigit():
        return (stage, -int(head), -int(number), "")
    return (3, 0, 0, version)
