"""The multicast plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, Scope, hookimpl
from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.renderers import Renderer
from ovnkit_multicast.acls import MulticastAcls
from ovnkit_multicast.relay import MulticastRelay


class MulticastPlugin:
    """IP multicast between the pods of namespaces that ask for it."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Off unless the configuration enables it."""
        return Declaration(
            needs=("topology", "pods", "management_port"),
            columns=(
                Columns(
                    "nb",
                    "ACL",
                    (
                        "name", "direction", "options", "priority", "action", "match", "log", "meter",
                        "external_ids",
                    ),
                ),
                Columns("nb", "Port_Group", ("acls", "ports")),
                Columns("nb", "ACL", ("tier",), "23.06", optional=True),
                Columns("nb", "Logical_Router", ("options",)),
                Columns("nb", "Logical_Switch", ("other_config",)),
            ),
            summary="multicast in namespaces with the annotation k8s.ovn.org/multicast-enabled",
        )  # fmt: skip

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """Role zone only."""
        yield from MulticastAcls(config.families).renderers()
        yield from MulticastRelay(config, scope).renderers()

    @hookimpl
    def ovnkit_explain(self, external_ids: Mapping[str, str]) -> str | None:
        """What an ACL is for."""
        plugin, _, rest = external_ids.get(OWNER_KEY, "").partition("/")
        if plugin != "multicast":
            return None
        renderer, _, rest = rest.partition("/")
        key, _, name = rest.rpartition("/")
        if renderer == "namespace":
            if name == "allow-hosts":
                return f"It lets the host-network pods of namespace {key} send multicast to its members."
            return f"It lets the pods of namespace {key} take part in multicast among themselves."
        if name.startswith("deny"):
            return "It keeps multicast from and to all pods that nothing allows it to."
        return "It lets multicast cross between nodes."
