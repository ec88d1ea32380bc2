"""Role node: what the node says about itself, and how its ovn-controller is set up."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import Reject, Retry
from ovnkit.api.hooks import Scope
from ovnkit.api.host import ADDRESSES, LINKS, AddressView
from ovnkit.api.items import Annotation, Ask, Event, Lookup, Member, Slot
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Address, Interface, parse_address, print_json
from ovnkit.api.world import World, derived
from ovnkit.network.node import CHASSIS_ID, ENCAP_IPS, HOST_CIDRS, PRIMARY_ADDRESSES, ZONE_NAME
from ovnkit.network.onlink import on_link_interface
from ovnkit_topology.daemons import controller_events

MANAGEMENT_LINK_PREFIX = "ovn-k8s-mp"
OVERHEAD = {4: 58, 6: 78}
"""Bytes that Geneve adds to a packet by the IP version of the tunnel's address (upstream's figures)."""


@frozen
class OvsSystem:
    """The Open_vSwitch row, as far as the topology reads it."""

    row: str
    system_id: str

    @property
    def key(self) -> str:
        """UUID of the one row."""
        return self.row


def _ovs_system(raw: Raw) -> OvsSystem:
    return OvsSystem(raw["_uuid"], raw["external_ids"].get("system-id", ""))


OVS_SYSTEM: Kind[OvsSystem] = Kind("ovs-system", Table("ovs", "Open_vSwitch", ("external_ids",)), _ovs_system)


@derived
def internal_addresses(world: World, node: str) -> tuple[Address, ...]:
    """The node's InternalIP addresses, in order."""
    found = world.get(NODES, node)
    try:
        return tuple(parse_address(text) for text in found.addresses) if found is not None else ()
    except ValueError as error:
        raise Reject(f"InternalIP of node {node}: {error}", reason="InvalidAddress") from None


@derived
def kernel_addresses(world: World, node: str) -> tuple[AddressView, ...]:
    """Addresses by which the node can be reached, sorted: not loopback, link-local or the management port."""
    del node
    return tuple(
        sorted(
            (view for view in world.list(ADDRESSES) if _is_reachable(view)),
            key=lambda view: (view.address.version, view.address, view.link),
        )
    )


def _is_reachable(view: AddressView) -> bool:
    address = view.address.ip
    return not (
        address.is_loopback
        or address.is_link_local
        or view.deprecated
        or view.link.startswith(MANAGEMENT_LINK_PREFIX)
    )


@derived
def encap_addresses(world: World, node: str, configured: str) -> tuple[Address, ...]:
    """Tunnel endpoint addresses: as configured (comma list), else the node's first InternalIP."""
    if configured:
        try:
            return tuple(parse_address(text.strip()) for text in configured.split(","))
        except ValueError as error:
            raise Reject(f"[default] encap-ip: {error}", reason="InvalidConfiguration") from None
    found = internal_addresses(world, node)
    if not found:
        raise Retry(f"node {node} has no InternalIP address yet")
    return found[:1]


@frozen
class OwnNode:
    """The renderers of the node role."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """The node's annotations, its OVS settings, checks of its tunnel interface and its ovn-controller."""
        yield Renderer("annotations", Role.NODE, self.annotations, each=self.node, subject=NODES)
        yield Renderer("ovs", Role.NODE, self.open_vswitch, each=self.node, subject=NODES)
        yield Renderer("mtu", Role.NODE, self.check_mtu, each=self.node, subject=NODES)
        if Role.ZONE not in self.scope.roles:  # else the zone tells
            yield Renderer("daemons", Role.NODE, self.daemons, each=self.node, subject=NODES)

    def node(self, world: World) -> Iterable[str]:
        """This node, once it is registered."""
        return (self.scope.node,) if self.scope.node in world.keys(NODES) else ()

    def daemons(self, world: World, node: str) -> Iterable[Ask | Event]:
        """Whether the node's ovn-controller works."""
        return controller_events(world, node)

    # -- annotations --------------------------------------------------------------------------------------

    def annotations(self, world: World, node: str) -> Iterable[Annotation | Event]:
        """What other roles need to know of this node."""
        system_id = next((view.system_id for view in world.list(OVS_SYSTEM)), "")
        if system_id:
            yield Annotation(NODES, node, CHASSIS_ID, system_id)
        else:
            message = "Open_vSwitch has no external_ids:system-id; start it with --system-id"
            yield Event(NODES, node, "NoSystemId", message)
        yield Annotation(NODES, node, ZONE_NAME, self.scope.zone)
        reachable = [view for view in kernel_addresses(world, node) if not self._is_masquerade(view.address)]
        cidrs = sorted({str(view.address) for view in reachable})
        yield Annotation(NODES, node, HOST_CIDRS, print_json(cidrs))
        primary = {f"ipv{item.version}": str(item) for item in self._primary(world, node, reachable)}
        if primary:
            yield Annotation(NODES, node, PRIMARY_ADDRESSES, print_json(primary))
        encaps = [str(address) for address in encap_addresses(world, node, self.config.default.encap_ip)]
        yield Annotation(NODES, node, ENCAP_IPS, print_json(encaps))

    def _is_masquerade(self, address: Interface) -> bool:
        return address.ip in self.config.masquerade_subnet(address.version)

    def _primary(self, world: World, node: str, reachable: list[AddressView]) -> list[Interface]:
        """An address of each family on the interface that carries the node's InternalIP, that one first."""
        internal = internal_addresses(world, node)
        link = next((view.link for ip in internal for view in reachable if view.address.ip == ip), None)
        on_link = [on_link_interface(world, view.link, view.address) for view in reachable if view.link == link]
        on_link.sort(key=lambda address: (address.version, address.ip not in internal))
        return list({address.version: address for address in reversed(on_link)}.values())[::-1]

    # -- Open vSwitch -------------------------------------------------------------------------------------

    def open_vswitch(self, world: World, node: str) -> Iterable[Member]:
        """external_ids by which ovn-controller finds the southbound and builds tunnels."""
        encaps = encap_addresses(world, node, self.config.default.encap_ip)
        slot = Slot("Open_vSwitch", Lookup("Open_vSwitch"), "external_ids")
        for key, value in self._external_ids(node, ",".join(map(str, encaps))).items():
            yield Member(slot, value, key=key, db="ovs")
        other_config = Slot("Open_vSwitch", Lookup("Open_vSwitch"), "other_config")
        probe = str(self.config.default.openflow_probe)
        yield Member(other_config, probe, key="bundle-idle-timeout", db="ovs")

    def _external_ids(self, node: str, encap_ip: str) -> dict[str, str]:
        default = self.config.default
        remote = self.config.ovnsouth.address or f"unix:{self.config.ovspaths.ovn_run_dir}/ovnsb_db.sock"
        return {
            "hostname": node,
            "ovn-encap-type": default.encap_type,
            "ovn-encap-ip": encap_ip,
            "ovn-remote": remote,
            "ovn-remote-probe-interval": str(default.inactivity_probe),
            "ovn-bridge-remote-probe-interval": str(default.openflow_probe),
            "ovn-openflow-probe-interval": str(default.openflow_probe),
            "ovn-is-interconn": _text(self.scope.per_node_zones),
            "ovn-monitor-all": _text(default.monitor_all),
            "ovn-ofctrl-wait-before-clear": str(default.ofctrl_wait_before_clear),
            "ovn-enable-lflow-cache": _text(default.enable_lflow_cache),
            "ovn-set-local-ip": "true",
        }

    # -- MTU ----------------------------------------------------------------------------------------------

    def check_mtu(self, world: World, node: str) -> Iterable[Event]:
        """An Event when the tunnel interface can't carry the pods' packets and the tunnel's headers."""
        encaps = encap_addresses(world, node, self.config.default.encap_ip)
        overhead = 0 if self.config.gateway.single_node else OVERHEAD[max(address.version for address in encaps)]
        needed = self.config.default.mtu + overhead
        for view in kernel_addresses(world, node):
            link = world.get(LINKS, view.link)
            if view.address.ip in encaps and link is not None and link.mtu < needed:
                message = (
                    f"MTU ({link.mtu}) of network interface {link.name} is too small for specified overlay "
                    f"MTU ({needed})"
                )
                yield Event(NODES, node, "MtuTooSmall", message)


def _text(value: bool) -> str:
    return "true" if value else "false"
