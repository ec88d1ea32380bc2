"""Discovery: /api, /apis, the resource lists, and the aggregated form that newer clients ask for."""

from collections.abc import Iterator, Sequence

from .errors import Json
from .registry import Registry, Resource

VERSION: Json = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0-kubelab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_AGGREGATED = ("v2", "v2beta1")


def wanted_version(accept: str) -> str:
    """``v2`` or ``v2beta1`` when the client accepts aggregated discovery, else empty."""
    offers = accept.replace(" ", "").split(",")
    for offer in offers:
        if "as=APIGroupDiscoveryList" in offer:
            version = next((v for v in _AGGREGATED if offer.endswith(f"v={v}") or f"v={v};" in offer), "")
            if version:
                return version
    return ""


def aggregated_type(version: str) -> str:
    """The content type of an aggregated answer."""
    return f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"


def aggregated(registry: Registry, version: str, core: bool) -> Json:
    """Every group (or only the core group) with all versions and resources."""
    items = []
    for group, versions in registry.versions().items():
        if (group == "") == core:
            listed = [
                {
                    "version": v,
                    "resources": [_described(r) for r in registry.of(group, v)],
                    "freshness": "Current",
                }
                for v in versions
            ]
            metadata: Json = {"creationTimestamp": None}
            if group:
                metadata["name"] = group
            items.append({"metadata": metadata, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _described(resource: Resource) -> Json:
    described: Json = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        described["shortNames"] = list(resource.short_names)
    if resource.categories:
        described["categories"] = list(resource.categories)
    subresources = [
        {"subresource": name, "responseKind": _kind(group, version, kind), "verbs": list(verbs)}
        for name, group, version, kind, verbs in _subresources(resource)
    ]
    if subresources:
        described["subresources"] = subresources
    return described


def _kind(group: str, version: str, kind: str) -> Json:
    return {"group": group, "version": version, "kind": kind}


_WRITABLE = ("get", "patch", "update")


def _subresources(resource: Resource) -> Iterator[tuple[str, str, str, str, Sequence[str]]]:
    for name in resource.subresources:
        match name:
            case "scale":
                yield name, "autoscaling", "v1", "Scale", _WRITABLE
            case "binding":
                yield name, "", "v1", "Binding", ("create",)
            case "eviction":
                yield name, "policy", "v1", "Eviction", ("create",)
            case "token":
                yield name, "authentication.k8s.io", "v1", "TokenRequest", ("create",)
            case "finalize":
                yield name, resource.group, resource.version, resource.kind, ("update",)
            case _:
                yield name, resource.group, resource.version, resource.kind, _WRITABLE


def core_versions() -> Json:
    """The answer to /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def groups(registry: Registry) -> Json:
    """The answer to /apis."""
    listed = [_group(g, v) for g, v in registry.versions().items() if g]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(registry: Registry, name: str) -> Json | None:
    """The answer to /apis/GROUP."""
    versions = registry.versions().get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def _group(name: str, versions: Sequence[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(registry: Registry, group_name: str, version: str) -> Json | None:
    """The answer to /api/v1 and /apis/GROUP/VERSION; None when not served."""
    served = registry.of(group_name, version)
    if not served:
        return None
    listed: list[Json] = []
    for resource in served:
        entry: Json = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        listed.append(entry)
        for name, sub_group, sub_version, kind, verbs in _subresources(resource):
            sub: Json = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
            }
            if (sub_group, sub_version) != (resource.group, resource.version):
                sub["group"], sub["version"] = sub_group, sub_version
            listed.append({**sub, "kind": kind, "verbs": list(verbs)})
    group_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}
