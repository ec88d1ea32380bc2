"""NodePorts by template: one load balancer for all nodes, in which each chassis fills in its own addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from ovnkit.api.identity import RowId
from ovnkit.api.items import Member, Row, Slot
from ovnkit_services.balancers import BalancerScope, Vips, router_texts, texts
from ovnkit_services.endpoints import NOBODY, Endpoints
from ovnkit_services.frontends import Frontend
from ovnkit_services.layout import Layout
from ovnkit_services.nodes import NodeFacts

_NAME_SIGNS = str.maketrans({"_": "__", "/": "_", "-": "_", "$": "_", "@": "_"})
"""How the name of a load balancer becomes the name of a variable."""


@frozen
class TemplateBalancer:
    """A template load balancer of a service: `vips` with variables in them."""

    protocol: str
    family: int
    scope: BalancerScope
    vips: Vips

    @property
    def suffix(self) -> str:
        """The last part of its name."""
        return f"{self.scope.value}_template_IPv{self.family}"


def by_chassis(nodes: Iterable[NodeFacts]) -> dict[str, NodeFacts]:
    """The nodes whose chassis is known, by that; of two that claim one it is the first's."""
    found: dict[str, NodeFacts] = {}
    for node in nodes:
        if node.chassis:
            found.setdefault(node.chassis, node)
    return found


def variables_row(chassis: str) -> RowId:
    """The Chassis_Template_Var of a chassis. It isn't the node's: nodes may exchange their chassis."""
    return RowId("services", "templates", chassis, "variables")


def address_variable(family: int, number: int) -> str:
    """The variable that holds a node's nth address of an IP family."""
    return f"NODEIP_IPv{family}_{number}"


def node_variables(node: NodeFacts) -> Iterable[Row | Member]:
    """The row of a node's variables, and its addresses among them."""
    yield Row("Chassis_Template_Var", "variables", {"chassis": node.chassis})
    for family in (4, 6):
        for number, address in enumerate(node.of(family)):
            yield variable(node.chassis, address_variable(family, number), address)


def variable(chassis: str, name: str, value: str) -> Member:
    """One variable of a chassis."""
    return Member(Slot("Chassis_Template_Var", variables_row(chassis), "variables"), value, key=name)


def build(
    service: str, items: Sequence[Frontend], endpoints: Endpoints, nodes: Sequence[NodeFacts], layout: Layout
) -> tuple[list[TemplateBalancer], list[Member]]:
    """The template load balancers for the NodePorts of `items`, and the variables they need."""
    nodes = list(by_chassis(nodes).values())
    balancers: dict[tuple[str, int, BalancerScope], TemplateBalancer] = {}
    members: list[Member] = []
    for item in items:
        for family in layout.families:
            width = max((len(node.of(family)) for node in nodes), default=0)
            targets = endpoints.get(((item.port.protocol, item.port.name), family), NOBODY).eligible()
            for scope in (BalancerScope.SWITCH, BalancerScope.ROUTER):
                found = balancers.setdefault(
                    (item.port.protocol, family, scope), TemplateBalancer(item.port.protocol, family, scope, {})
                )
                value = texts(targets, family)
                if scope is BalancerScope.ROUTER and any(target.hosted for target in targets):
                    name = target_variable(service, item, found.suffix)
                    value = f"^{name}"
                    members += [
                        variable(node.chassis, name, router_texts(targets, family, node, layout)) for node in nodes
                    ]
                for number in range(width):
                    found.vips[f"^{address_variable(family, number)}:{item.port.node_port}"] = value
    return list(_used(balancers.values())), members


def _used(balancers: Iterable[TemplateBalancer]) -> Iterator[TemplateBalancer]:
    return (balancer for balancer in balancers if balancer.vips)


def target_variable(service: str, item: Frontend, suffix: str) -> str:
    """The variable that holds the targets of a port as one node reaches them."""
    name = f"Service_{service}_{item.port.protocol}_{item.port.node_port}_{suffix}"
    return name.translate(_NAME_SIGNS)
