"""A pod's port on the integration bridge, in the node's Open vSwitch database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ovnkit_cni.bandwidth import Bandwidth
from ovnkit_cni.netns import host_name
from ovnkit_cni.switch import BRIDGE, Switch, SwitchCommand
from ovnkit_cni.wire import INTERNAL, TRY_AGAIN, CniError

if TYPE_CHECKING:
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

KEEP = frozenset({"ovn-k8s-mp0", "ovn-k8s-mp0_0"})
"""Interfaces that are not removed even when they have no device."""


@frozen
class PodPort:
    """A port to be added: device name, external_ids of its Interface, limits."""

    name: str
    external_ids: Mapping[str, str]
    bandwidth: Bandwidth

    @property
    def iface_id(self) -> str:
        """Name of the logical switch port."""
        return self.external_ids["iface-id"]


Doomed = Callable[[str, Mapping[str, str], int], bool]


class AddPodPort(SwitchCommand):
    """Add a pod's port; ports of an earlier sandbox of the same pod go in the same transaction."""

    def __init__(self, switch: Switch, port: PodPort) -> None:
        super().__init__(switch.ovs)
        self.switch, self.port, self.subject = switch, port, port.iface_id

    def run_idl(self, txn: Any) -> None:
        """Make the rows."""
        bridge = _bridge(self.api)
        if bridge is None:
            raise CniError(TRY_AGAIN, f"bridge {BRIDGE} does not exist (yet): is ovn-controller running?")
        for name in {self.port.name, *self.switch.names(self.port.iface_id)}:
            port = _row(self.api, "Port", name)
            ids = _ids(port) if port is not None else {}
            if port is not None and ids.get("iface-id") == self.port.iface_id:
                bridge.delvalue("ports", port)
            elif port is not None and name == self.port.name:
                raise CniError(INTERNAL, f"port {name} exists already, for {ids.get('iface-id', 'another')}")
        interface = txn.insert(self.api.tables["Interface"])
        interface.name = self.port.name
        interface.external_ids = dict(self.port.external_ids)
        row = txn.insert(self.api.tables["Port"])
        row.name = self.port.name
        row.interfaces = [interface]
        row.other_config = {"transient": "true"}
        self._limit(txn, row, interface)
        bridge.addvalue("ports", row)

    def _limit(self, txn: Any, port: Any, interface: Any) -> None:
        limits = self.port.bandwidth
        if limits.egress:
            # kbit/s, and a burst of a tenth of it, as upstream.
            interface.ingress_policing_rate = max(1, limits.egress // 1000)
            interface.ingress_policing_burst = max(1, limits.egress // 10000)
        if limits.ingress:
            ids = {"sandbox": self.port.external_ids["sandbox"]}
            queue = txn.insert(self.api.tables["Queue"])
            queue.other_config = {"max-rate": str(limits.ingress)}
            queue.external_ids = ids
            qos = txn.insert(self.api.tables["QoS"])
            qos.type = "linux-htb"
            qos.other_config = {"max-rate": str(limits.ingress)}
            qos.external_ids = ids
            qos.queues = {0: queue}
            port.qos = [qos]


class RemovePorts(SwitchCommand):
    """Remove the ports that `doomed(interface name, external_ids, ofport)` picks, with their QoS.

    `name` says that no other can be meant. `result` is the names of the ports removed.
    """

    def __init__(self, api: OvsdbIdl, doomed: Doomed, name: str = "") -> None:
        super().__init__(api)
        self.doomed, self.name = doomed, name

    def run_idl(self, _txn: Any) -> None:
        """Delete the rows."""
        self.result = []
        for port in _doomed(self.api, self.doomed, self.name):
            ids = _ids(port)
            self.result.append(port.name)
            _bridge(self.api).delvalue("ports", port)
            port.qos = []
            if sandbox := ids.get("sandbox"):
                self._remove_limits(sandbox)

    def _remove_limits(self, sandbox: str) -> None:
        for table in ("QoS", "Queue"):
            for row in list(self.api.tables[table].rows.values()):
                if row.external_ids.get("sandbox") == sandbox:
                    row.delete()


def _row(ovs: OvsdbIdl, table: str, name: str) -> Any:
    """A row by its name, by way of the index; None when there is none."""
    return ovs.lookup(table, name, None)


def _bridge(ovs: OvsdbIdl) -> Any:
    return _row(ovs, "Bridge", BRIDGE)


def _doomed(ovs: OvsdbIdl, doomed: Doomed, name: str = "") -> list[Any]:
    """The ports of the integration bridge that are doomed; with a name only that one is looked at."""
    bridge = _bridge(ovs)
    if bridge is None:
        return []
    ports = [_row(ovs, "Port", name)] if name else bridge.ports
    return [port for port in ports if port is not None and doomed(port.name, _ids(port), _ofport(port))]


def _ids(port: Any) -> Mapping[str, str]:
    interfaces = port.interfaces
    return interfaces[0].external_ids if len(interfaces) == 1 else {}


def _ofport(port: Any) -> int:
    found = port.interfaces[0].ofport if len(port.interfaces) == 1 else []
    return int(found[0]) if found else 0


def add(switch: Switch, port: PodPort) -> None:
    """Add a pod's port; raises CniError."""
    switch.execute(AddPodPort(switch, port))


def remove(switch: Switch, doomed: Doomed) -> Collection[str]:
    """Remove the ports that are doomed; their names. Costs no transaction when there is none."""
    with switch.ovs.ovsdb_connection.lock:
        if not _doomed(switch.ovs, doomed):
            return ()
    return list(switch.execute(RemovePorts(switch.ovs, doomed)) or ())


def remove_sandbox(switch: Switch, sandbox: str, ifname: str = "", name: str = "") -> Collection[str]:
    """Remove the port of a sandbox, if it is for the interface `ifname`; `name` is its name when it isn't ours."""

    def doomed(_name: str, ids: Mapping[str, str], _ofport: int) -> bool:
        return ids.get("sandbox") == sandbox and ids.get("pod-if-name", ifname) in (
            ifname or ids.get("pod-if-name"),
        )

    name = name or host_name(sandbox)
    found = switch.interface(name)
    if found is None or not doomed(name, found.external_ids, 0):
        return ()
    return list(switch.execute(RemovePorts(switch.ovs, doomed, name)) or ())


def sandboxes(switch: Switch) -> Iterator[tuple[str, str, str, str]]:
    """Of each pod interface: port name, sandbox, interface name in the pod, pod UID."""
    with switch.ovs.ovsdb_connection.lock:
        bridge = _bridge(switch.ovs)
        found = [(port.name, dict(_ids(port))) for port in bridge.ports] if bridge is not None else []
    for name, ids in found:
        if "sandbox" in ids:
            yield name, ids["sandbox"], ids.get("pod-if-name", ""), ids.get("iface-id-ver", "")


def bridge_is_there(switch: Switch) -> bool:
    """Whether ovn-controller has made the integration bridge."""
    with switch.ovs.ovsdb_connection.lock:
        return _bridge(switch.ovs) is not None
