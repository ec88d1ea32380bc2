"""A pod's port on the integration bridge, in the node's Open vSwitch database."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit.network.pod import PodNetwork
from ovnkit_cni.attachments import RECORD, Attachment, Mark, Plugged, attachment_of
from ovnkit_cni.bandwidth import Bandwidth
from ovnkit_cni.netns import host_name
from ovnkit_cni.switch import Switch, SwitchCommand
from ovnkit_cni.wire import INTERNAL, TRY_AGAIN, CniError

if TYPE_CHECKING:
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

KEEP = frozenset({MANAGEMENT_LINK, f"{MANAGEMENT_LINK}_0"})
"""Interfaces that are not removed even when they have no device."""

_CLOSING = 5.0
"""Seconds that ovs-vswitchd may take to close a port."""

_OWN = frozenset({"attached_mac", "iface-id", "iface-id-ver", "sandbox", "pod-if-name", "ip_addresses"})
"""Keys of an Interface's external_ids that are written here; ovn-controller and others add theirs."""


@frozen
class PodPort:
    """A port to be added: device name, external_ids of its Interface, limits, external_ids of its Port."""

    name: str
    external_ids: Mapping[str, str]
    bandwidth: Bandwidth = Bandwidth()
    record: Mapping[str, str] = field(factory=dict)

    @property
    def iface_id(self) -> str:
        """Name of the logical switch port."""
        return self.external_ids["iface-id"]

    @property
    def pod(self) -> tuple[str, str]:
        """Key and UID of the pod; an empty key when the ids don't tell."""
        return self.iface_id.replace("_", "/", 1), self.external_ids.get("iface-id-ver", "")

    @property
    def ids(self) -> Mapping[str, str]:
        """All external_ids together."""
        return {**self.record, **self.external_ids}

    @property
    def plugged(self) -> Plugged | None:
        """What the pod was plugged with; None for a port of a former version."""
        return Plugged.of(self.record)

    @classmethod
    def of(cls, port: Any) -> PodPort | None:
        """A row of table Port as it is; None when it isn't a pod's."""
        ids = {key: value for key, value in _own_ids(port).items() if key in _OWN}
        record = {key: value for key, value in port.external_ids.items() if key.startswith(RECORD)}
        if "iface-id" not in ids or "sandbox" not in ids:
            return None
        interface = port.interfaces[0]
        rates = [qos.other_config.get("max-rate", "") for qos in port.qos]
        ingress = int(rates[0]) if rates and rates[0].isdecimal() else 0
        limits = Bandwidth(ingress, int(interface.ingress_policing_rate) * 1000)
        return cls(port.name, ids, limits, record)


Doomed = Callable[[str, Mapping[str, str], int], bool]


class AddPodPort(SwitchCommand):
    """Add a pod's port; ports of an earlier sandbox of the same pod go in the same transaction.

    With `again` the port has been there before: what is left of it goes too, whatever became of its ids.
    """

    def __init__(self, switch: Switch, port: PodPort, again: bool = False) -> None:
        super().__init__(switch.ovs)
        self.switch, self.port, self.subject, self.again = switch, port, port.iface_id, again

    def run_idl(self, txn: Any) -> None:
        """Make the rows."""
        bridge = _bridge(self.api)
        if bridge is None:
            raise CniError(
                TRY_AGAIN, f"bridge {INTEGRATION_BRIDGE} does not exist (yet): is ovn-controller running?"
            )
        for name, kept in list(self.switch.kept.items()):
            if kept.iface_id == self.port.iface_id:
                del self.switch.kept[name]
        for name in {self.port.name, *self.switch.names(self.port.iface_id)}:
            port = _row(self.api, "Port", name)
            ids = _ids(port) if port is not None else {}
            if port is None:
                continue
            if ids.get("iface-id") == self.port.iface_id or (self.again and name == self.port.name):
                _delete(self.api, port)
            elif name == self.port.name:
                raise CniError(INTERNAL, f"port {name} exists already, for {ids.get('iface-id', 'another')}")
        interface = txn.insert(self.api.tables["Interface"])
        interface.name = self.port.name
        interface.external_ids = dict(self.port.external_ids)
        row = txn.insert(self.api.tables["Port"])
        row.name = self.port.name
        row.interfaces = [interface]
        row.other_config = {"transient": "true"}
        row.external_ids = dict(self.port.record)
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

    def __init__(self, switch: Switch, doomed: Doomed, name: str = "") -> None:
        super().__init__(switch.ovs)
        self.switch, self.doomed, self.name = switch, doomed, name

    def run_idl(self, _txn: object) -> None:
        """Delete the rows."""
        self.result = []
        for port in _doomed(self.api, self.doomed, self.name):
            self.result.append(port.name)
            self.switch.kept.pop(port.name, None)
            _delete(self.api, port)


class ClosePort(SwitchCommand):
    """Take a port off whose device is gone; `result` is the configuration's number, None if there was no port."""

    def __init__(self, switch: Switch, name: str) -> None:
        super().__init__(switch.ovs)
        self.name = name

    def run_idl(self, _txn: object) -> None:
        """Delete the rows."""
        port = _row(self.api, "Port", self.name)
        if port is not None:
            _delete(self.api, port)
        _configuration(self.api).increment("next_cfg")

    def post_commit(self, txn: Any) -> None:
        """Take the number."""
        self.result = txn.get_increment_new_value()


class SetIds(SwitchCommand):
    """Give a port that is there the external_ids that it was made with; other keys stay."""

    def __init__(self, switch: Switch, port: PodPort) -> None:
        super().__init__(switch.ovs)
        self.port, self.subject = port, port.iface_id

    def run_idl(self, _txn: object) -> None:
        """Write them."""
        port = _row(self.api, "Port", self.port.name)
        if port is None or len(port.interfaces) != 1:
            return
        for row, ids in ((port, self.port.record), (port.interfaces[0], self.port.external_ids)):
            for key, value in ids.items():
                if row.external_ids.get(key) != value:
                    row.setkey("external_ids", key, value)


class CollectLimits(SwitchCommand):
    """Delete the rows of QoS and Queue that were made for pods and that no port uses; `result` is how many."""

    def run_idl(self, _txn: object) -> None:
        """Delete the rows."""
        doomed = _unused_limits(self.api)
        for row in doomed:
            row.delete()
        self.result = len(doomed)


def _unused_limits(ovs: OvsdbIdl) -> list[Any]:
    used = {qos.uuid for port in ovs.tables["Port"].rows.values() for qos in port.qos}
    found = [row for row in ovs.tables["QoS"].rows.values() if row.uuid in used or not _is_limit(row)]
    queues = {queue.uuid for row in found for queue in row.queues.values()}
    return [
        *(row for row in ovs.tables["QoS"].rows.values() if row.uuid not in used and _is_limit(row)),
        *(row for row in ovs.tables["Queue"].rows.values() if row.uuid not in queues and _is_limit(row)),
    ]


def _is_limit(row: Any) -> bool:
    return "sandbox" in row.external_ids


def _delete(ovs: OvsdbIdl, port: Any) -> None:
    """Take a port off its bridge, with the rows that limit it: these are no part of it, and would stay."""
    for bridge in ovs.tables["Bridge"].rows.values():
        if port in bridge.ports:
            bridge.delvalue("ports", port)
    for qos in port.qos:
        if not _is_limit(qos):
            continue
        for queue in qos.queues.values():
            queue.delete()
        qos.delete()
    port.qos = []


def _configuration(ovs: OvsdbIdl) -> Any:
    return next(iter(ovs.tables["Open_vSwitch"].rows.values()))


def _row(ovs: OvsdbIdl, table: str, name: str) -> Any:
    """A row by its name, by way of the index; None when there is none."""
    return ovs.lookup(table, name, None)


def _bridge(ovs: OvsdbIdl) -> Any:
    return _row(ovs, "Bridge", INTEGRATION_BRIDGE)


def _doomed(ovs: OvsdbIdl, doomed: Doomed, name: str = "") -> list[Any]:
    """The ports of the integration bridge that are doomed; with a name only that one is looked at."""
    bridge = _bridge(ovs)
    if bridge is None:
        return []
    ports = [_row(ovs, "Port", name)] if name else bridge.ports
    return [port for port in ports if port is not None and doomed(port.name, _ids(port), _ofport(port))]


def _own_ids(port: Any) -> Mapping[str, str]:
    """The external_ids of a port's interface."""
    interfaces = port.interfaces
    return interfaces[0].external_ids if len(interfaces) == 1 else {}


def _ids(port: Any) -> Mapping[str, str]:
    """The external_ids of a port and its interface together."""
    return {**port.external_ids, **_own_ids(port)}


def _ofport(port: Any) -> int:
    found = port.interfaces[0].ofport if len(port.interfaces) == 1 else []
    return int(found[0]) if found else 0


def interface_ids(mark: Mark, network: PodNetwork) -> Mapping[str, str]:
    """The external_ids of a pod's Interface, as upstream's tools know them."""
    return {
        "attached_mac": network.mac_address,
        "iface-id": mark.pod.replace("/", "_", 1),
        "iface-id-ver": mark.uid,
        "sandbox": mark.sandbox,
        "pod-if-name": mark.ifname,
        "ip_addresses": ",".join(str(address) for address in network.ip_addresses),
    }


def add(switch: Switch, port: PodPort) -> None:
    """Add a pod's port; raises CniError."""
    switch.execute(AddPodPort(switch, port))


def close(switch: Switch, port: PodPort) -> None:
    """Take a port off whose device is gone, and wait until Open vSwitch has closed the device; raises CniError.

    A port of the same name that is made sooner would keep the old device.
    """
    number = switch.execute(ClosePort(switch, port.name))
    deadline = time.monotonic() + _CLOSING
    while number is not None and _configuration(switch.ovs).cur_cfg < number:
        if time.monotonic() > deadline:
            raise CniError(TRY_AGAIN, f"ovs-vswitchd does not answer: it has not closed port {port.name}")
        time.sleep(0.02)


def restore(switch: Switch, port: PodPort) -> None:
    """Make a port again that was changed or removed by someone else; raises CniError.

    One that only lost its external_ids keeps its number.
    """
    found = switch.interface(port.name)
    if found is not None and found.ofport >= 0 and port.name in names(switch):
        switch.execute(SetIds(switch, port))
        return
    try:
        switch.execute(AddPodPort(switch, port, again=True))
    finally:
        switch.kept[port.name] = port


def remove(switch: Switch, doomed: Doomed) -> Collection[str]:
    """Remove the ports that are doomed; their names. Costs no transaction when there is none."""
    with switch.ovs.ovsdb_connection.lock:
        if not _doomed(switch.ovs, doomed):
            return ()
    return list(switch.execute(RemovePorts(switch, doomed)) or ())


def remove_attachment(switch: Switch, attachment: Attachment, name: str = "") -> bool:
    """Remove the port of an attachment, and of no other; whether there was one. `name`: when it isn't ours."""

    name = name or host_name(attachment.sandbox)
    kept = switch.kept.get(name)
    known = kept is not None and attachment_of(kept.ids) == attachment
    if known:
        switch.kept.pop(name, None)

    def doomed(_name: str, ids: Mapping[str, str], _ofport: int) -> bool:
        return known or attachment_of(ids) == attachment

    if switch.interface(name) is None or not doomed(name, switch.ids(name), 0):
        return False
    return bool(switch.execute(RemovePorts(switch, doomed, name)))


def attachments(switch: Switch) -> Iterator[tuple[str, Attachment, Mapping[str, str]]]:
    """Of each pod interface: port name, attachment, external_ids of port and interface."""
    with switch.ovs.ovsdb_connection.lock:
        bridge = _bridge(switch.ovs)
        found = [(port.name, dict(_ids(port))) for port in bridge.ports] if bridge is not None else []
    for name, ids in found:
        attachment = attachment_of(ids)
        if attachment is not None:
            yield name, attachment, ids


def names(switch: Switch) -> Collection[str]:
    """The names of all ports on the integration bridge."""
    with switch.ovs.ovsdb_connection.lock:
        bridge = _bridge(switch.ovs)
        return frozenset(port.name for port in bridge.ports) if bridge is not None else ()


def pod_ports(switch: Switch) -> Iterable[PodPort]:
    """The ports of pods as they are now."""
    with switch.ovs.ovsdb_connection.lock:
        bridge = _bridge(switch.ovs)
        found = [PodPort.of(port) for port in bridge.ports] if bridge is not None else []
    return [port for port in found if port is not None]


def collect_limits(switch: Switch) -> int:
    """Delete limits that no port uses any more; how many rows. Costs no transaction when there are none."""
    with switch.ovs.ovsdb_connection.lock:
        if not _unused_limits(switch.ovs):
            return 0
    return int(switch.execute(CollectLimits(switch.ovs)) or 0)


def bridge_is_there(switch: Switch) -> bool:
    """Whether ovn-controller has made the integration bridge."""
    with switch.ovs.ovsdb_connection.lock:
        return _bridge(switch.ovs) is not None
