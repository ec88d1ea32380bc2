"""Manifests that the enabled plugins and the core need: ClusterRoles and CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ovnkit.api.hooks import Privilege
from ovnkit.api.kinds import Kind, Resource
from ovnkit.api.renderers import Role
from ovnkit.kernel.plugins import Plugins
from ovnkit.kernel.watches import kinds_of

_READ = ("get", "list", "watch")


def core_privileges(roles: Iterable[Role], kinds: Iterable[Kind[Any]]) -> list[Privilege]:
    """What the core itself does: watch the kinds, write Events, compete for Leases."""
    held = set(roles)
    found = [Privilege("", ("events",), ("create", "get", "list", "patch"))]
    found += [
        Privilege(group_of(kind.source), (kind.source.plural,), _READ)
        for kind in kinds
        if isinstance(kind.source, Resource)
    ]
    if held & {Role.CLUSTER, Role.ZONE}:
        found.append(Privilege("coordination.k8s.io", ("leases",), ("create", "get", "list", "update", "watch")))
    return found


def group_of(resource: Resource) -> str:
    """API group of a resource; empty for the core's."""
    return resource.api_version.partition("/")[0] if "/" in resource.api_version else ""


def cluster_role(plugins: Plugins, roles: Iterable[Role], name: str = "ovnkit") -> dict[str, Any]:
    """The ClusterRole for processes with these roles: one rule per group and resource, verbs merged."""
    kinds = kinds_of(plugin.declaration for plugin in plugins.enabled).values()
    needed = core_privileges(roles, kinds)
    for plugin in plugins.enabled:
        needed += plugin.declaration.privileges
    verbs: dict[tuple[str, str], set[str]] = {}
    for privilege in needed:
        for resource in privilege.resources:
            verbs.setdefault((privilege.api_group, resource), set()).update(privilege.verbs)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": sorted(allowed)}
            for (group, resource), allowed in sorted(verbs.items())
        ],
    }


def crds(plugins: Plugins) -> list[Mapping[str, Any]]:
    """The CustomResourceDefinitions of the enabled plugins, by name; two of one name are one."""
    found: dict[str, Mapping[str, Any]] = {}
    for plugin in plugins.enabled:
        for crd in plugin.declaration.crds:
            found.setdefault(crd["metadata"]["name"], crd)
    return [found[name] for name in sorted(found)]
