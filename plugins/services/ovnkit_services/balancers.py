"""Which load balancers a service has, and what each maps to what: pure functions of facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from attrs import define, field, frozen

from ovnkit_services.endpoints import NOBODY, Endpoints, Target, Targets, vip
from ovnkit_services.frontends import FamilyAddress, Frontend
from ovnkit_services.layout import Layout
from ovnkit_services.nodes import NodeFacts


class BalancerScope(Enum):
    """Where a load balancer applies; the value is part of its name, as OVN-Kubernetes names them."""

    CLUSTER = "cluster"
    BOTH = "node_router+switch"
    SWITCH = "node_switch"
    ROUTER = "node_router"
    LOCAL_ROUTER = "node_local_router"


Vips = dict[str, str]
"""Address and port to a comma list of targets, as in OVN."""


@define
class Balancers:
    """The load balancers of a service: those of the whole zone, of each node, and templates.

    `cluster` by protocol; `nodes` by protocol, scope and node. `differing` are the protocols and scopes that
    differ from node to node by their nature. `node_ports` are those ports that templates take care of.
    """

    cluster: dict[str, Vips] = field(factory=dict)
    nodes: dict[tuple[str, BalancerScope], dict[str, Vips]] = field(factory=dict)
    differing: set[tuple[str, BalancerScope]] = field(factory=set)
    node_ports: list[Frontend] = field(factory=list)

    def everywhere(self, protocol: str, key: str, targets: str) -> None:
        """A mapping of the whole zone."""
        _map(self.cluster.setdefault(protocol, {}), key, targets)

    def on_node(self, protocol: str, scope: BalancerScope, node: str, key: str, targets: str) -> None:
        """A mapping on one node."""
        _map(self.nodes.setdefault((protocol, scope), {}).setdefault(node, {}), key, targets)


def _map(vips: Vips, key: str, targets: str) -> None:
    """Several things that come to one address and port share it."""
    known = vips.get(key)
    if known and targets and known != targets:
        targets = ",".join(dict.fromkeys(f"{known},{targets}".split(",")))
    vips[key] = targets or known or ""


@frozen
class Policy:
    """What of a service's specification decides how its ports are mapped."""

    internal_local: bool
    external_local: bool
    templates: bool


def needs_nodes(items: Iterable[Frontend], endpoints: Endpoints, policy: Policy, layout: Layout) -> bool:
    """Whether any load balancer differs from node to node, so that nodes have to be looked at."""
    for item in items:
        if policy.internal_local or item.port.node_port or (policy.external_local and item.external):
            return True
        if any(_hosted(targets) for targets in _families(item, endpoints, layout).values()):
            return True
    return False


def build(
    items: Sequence[Frontend],
    endpoints: Endpoints,
    nodes: Sequence[NodeFacts],
    policy: Policy,
    layout: Layout,
) -> Balancers:
    """The load balancers for these ports on these nodes."""
    found = Balancers()
    for item in items:
        targets = _families(item, endpoints, layout)
        hosted = any(_hosted(each) for each in targets.values())
        internal = policy.internal_local or hosted
        external = policy.external_local or hosted
        whole_zone = (*(() if internal else item.cluster), *(() if external else item.external))
        for family, address in whole_zone:
            key = vip(address, item.port.port, family)
            found.everywhere(item.port.protocol, key, texts(targets[family].eligible(), family))
        if item.port.node_port and policy.templates:
            found.node_ports.append(item)
        if internal or external or item.port.node_port:
            builder = _NodeBuilder(found, item, targets, policy, layout)
            for node in nodes:
                if internal:
                    builder.internal(node)
                if external:
                    builder.external(node, item.external, item.port.port)
                if item.port.node_port and not policy.templates:
                    builder.node_port(node)
    return found


@frozen
class _NodeBuilder:
    found: Balancers
    item: Frontend
    targets: Mapping[int, Targets]
    policy: Policy
    layout: Layout

    def internal(self, node: NodeFacts) -> None:
        """Cluster IPs: a node's pods may be bound to its own endpoints; what comes through its router is not."""
        local = self.policy.internal_local
        for family, address in self.item.cluster:
            key = vip(address, self.item.port.port, family)
            on_switch = self._on(node, family) if local else self._all(family)
            self._switch(node, key, on_switch, family, differing=local)
            self._router(node, key, self._all(family), family)

    def external(
        self, node: NodeFacts, addresses: Iterable[FamilyAddress], port: int, *, own: bool = False
    ) -> None:
        """Addresses that come from outside: the node's own endpoints when the source is to be kept."""
        for family, address in addresses:
            key = vip(address, port, family)
            self._switch(node, key, self._all(family), family, differing=own)
            if not self.policy.external_local:
                self._router(node, key, self._all(family), family)
            elif here := self._on(node, family):
                self._router(node, key, here, family, BalancerScope.LOCAL_ROUTER)
            else:
                self._router(node, key, (), family)

    def node_port(self, node: NodeFacts) -> None:
        """The port on the node's addresses, and where the node sends what must stay on it."""
        port = self.item.port.node_port
        self.external(node, node.node_ports, port, own=True)
        if self.policy.external_local and node.node_ports:
            for family in self.layout.families:
                key = vip(self.layout.etp_local[family], port, family)
                self._switch(node, key, self._on(node, family), family, differing=True)

    def _all(self, family: int) -> tuple[Target, ...]:
        return self.targets[family].eligible()

    def _on(self, node: NodeFacts, family: int) -> tuple[Target, ...]:
        return self.targets[family].on(node.name)

    def _switch(
        self, node: NodeFacts, key: str, targets: Iterable[Target], family: int, *, differing: bool
    ) -> None:
        protocol = self.item.port.protocol
        if differing:
            self.found.differing.add((protocol, BalancerScope.SWITCH))
        self.found.on_node(protocol, BalancerScope.SWITCH, node.name, key, texts(targets, family))

    def _router(
        self,
        node: NodeFacts,
        key: str,
        targets: Iterable[Target],
        family: int,
        scope: BalancerScope = BalancerScope.ROUTER,
    ) -> None:
        if not node.gateway:
            return
        protocol = self.item.port.protocol
        self.found.differing.add((protocol, scope))
        masked = router_texts(targets, family, node, self.layout)
        self.found.on_node(protocol, scope, node.name, key, masked)


def texts(targets: Iterable[Target], family: int) -> str:
    """Targets as OVN writes them."""
    return ",".join([target.text(family) for target in targets])


def router_texts(targets: Iterable[Target], family: int, node: NodeFacts, layout: Layout) -> str:
    """The same as a node's gateway router reaches them: the node's own address is the router's too."""
    host = layout.host_masquerade[family]
    return ",".join(
        vip(host if target.address in node.gateway else target.address, target.port, family) for target in targets
    )


def _families(item: Frontend, endpoints: Endpoints, layout: Layout) -> dict[int, Targets]:
    key = (item.port.protocol, item.port.name)
    return {family: endpoints.get((key, family), NOBODY) for family in layout.families}


def _hosted(targets: Targets) -> bool:
    return any(target.hosted for target in targets.eligible())
