"""Manifests that the enabled plugins and the core need: ClusterRoles and CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ovnkit.api.config import Config
from ovnkit.api.hooks import Privilege
from ovnkit.api.kinds import Kind, Resource, View
from ovnkit.api.renderers import Role
from ovnkit.plugins.registry import Plugins
from ovnkit.process.leadership import lease_names
from ovnkit.process.scope import make_scope
from ovnkit.process.watches import kinds_of

_READ = ("get", "list", "watch")
_GROUP = "rbac.authorization.k8s.io"


def core_privileges(config: Config, roles: Iterable[Role], kinds: Iterable[Kind[View]]) -> list[Privilege]:
    """What the core itself does: watch the kinds, write Events, compete for Leases."""
    found = [Privilege("", ("events",), ("create", "get", "patch"))]
    found += [
        Privilege(group_of(kind.source), (kind.source.plural,), _READ)
        for kind in kinds
        if isinstance(kind.source, Resource)
    ]
    namespace = config.kubernetes.ovn_config_namespace
    leases = tuple(lease_names(make_scope(config, roles, "any")).values())
    if leases:
        group, what = "coordination.k8s.io", ("leases",)
        # nobody can be allowed to create an object of a certain name, or to watch one only
        found.append(Privilege(group, what, ("create", "watch"), namespace=namespace))
        found.append(Privilege(group, what, ("get", "update"), names=leases, namespace=namespace))
    return found


def group_of(resource: Resource) -> str:
    """API group of a resource; empty for the core's."""
    return resource.api_version.partition("/")[0] if "/" in resource.api_version else ""


def role_manifests(
    plugins: Plugins, config: Config, roles: Sequence[Role], name: str = "ovnkit"
) -> list[dict[str, Any]]:
    """The ClusterRole for processes with these roles, and a Role for each namespace in which they need more.

    One rule per group, resource and names, verbs merged. What several roles in one process need adds up.
    """
    kinds = kinds_of(plugin.declaration for plugin in plugins.enabled).values()
    needed = core_privileges(config, roles, kinds)
    for plugin in plugins.enabled:
        needed += (item for item in plugin.declaration.privileges if not set(roles).isdisjoint(item.roles))
    verbs: dict[str, dict[tuple[str, str, tuple[str, ...]], set[str]]] = {"": {}}
    for privilege in needed:
        rules = verbs.setdefault(privilege.namespace, {})
        for resource in privilege.resources:
            rules.setdefault((privilege.api_group, resource, privilege.names), set()).update(privilege.verbs)
    return [_role(name, namespace, verbs[namespace]) for namespace in sorted(verbs)]


def _role(name: str, namespace: str, rules: Mapping[tuple[str, str, tuple[str, ...]], set[str]]) -> dict[str, Any]:
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "rules": [
            {
                "apiGroups": [group],
                "resources": [resource],
                "verbs": sorted(allowed),
                **({"resourceNames": sorted(names)} if names else {}),
            }
            for (group, resource, names), allowed in sorted(rules.items())
        ],
    }


def crds(plugins: Plugins) -> list[Mapping[str, Any]]:
    """The CustomResourceDefinitions of the enabled plugins, by name; two of one name are one."""
    found: dict[str, Mapping[str, Any]] = {}
    for plugin in plugins.enabled:
        for crd in plugin.declaration.crds:
            found.setdefault(crd["metadata"]["name"], crd)
    return [found[name] for name in sorted(found)]
