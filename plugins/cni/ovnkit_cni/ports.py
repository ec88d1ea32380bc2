"""A pod's port on the integration bridge, in the node's Open vSwitch database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen
from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.backend.ovs_idl.event import RowEvent, RowEventHandler
from ovsdbapp.backend.ovs_idl.transaction import Transaction

from ovnkit_cni.bandwidth import Bandwidth
from ovnkit_cni.wire import INTERNAL, TRY_AGAIN, CniError

if TYPE_CHECKING:
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

BRIDGE = "br-int"
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


class AddPodPort(BaseCommand):  # type: ignore[misc]
    """Add a pod's port; ports of an earlier sandbox of the same pod go in the same transaction."""

    def __init__(self, api: OvsdbIdl, port: PodPort) -> None:
        super().__init__(api)
        self.port = port

    def run_idl(self, txn: Any) -> None:
        """Make the rows."""
        bridge = _bridge(self.api)
        if bridge is None:
            raise CniError(TRY_AGAIN, f"bridge {BRIDGE} does not exist (yet): is ovn-controller running?")
        for port in list(bridge.ports):
            ids = _ids(port)
            if ids.get("iface-id") == self.port.iface_id:
                bridge.delvalue("ports", port)
            elif port.name == self.port.name:
                owner = ids.get("iface-id", "another")
                raise CniError(INTERNAL, f"port {port.name} exists already on {BRIDGE}, for {owner}")
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


class RemovePorts(BaseCommand):  # type: ignore[misc]
    """Remove the ports that `doomed(interface name, external_ids, ofport)` picks, with their QoS.

    `result` is the names of the ports removed.
    """

    def __init__(self, api: OvsdbIdl, doomed: Callable[[str, Mapping[str, str], int], bool]) -> None:
        super().__init__(api)
        self.doomed = doomed

    def run_idl(self, _txn: Any) -> None:
        """Delete the rows."""
        self.result = []
        bridge = _bridge(self.api)
        for port in list(bridge.ports) if bridge is not None else ():
            ids = _ids(port)
            if not self.doomed(port.name, ids, _ofport(port)):
                continue
            self.result.append(port.name)
            bridge.delvalue("ports", port)
            port.qos = []
            if sandbox := ids.get("sandbox"):
                self._remove_limits(sandbox)

    def _remove_limits(self, sandbox: str) -> None:
        for table in ("QoS", "Queue"):
            for row in list(self.api.tables[table].rows.values()):
                if row.external_ids.get("sandbox") == sandbox:
                    row.delete()


def _bridge(ovs: OvsdbIdl) -> Any:
    return next((row for row in ovs.tables["Bridge"].rows.values() if row.name == BRIDGE), None)


def _ids(port: Any) -> Mapping[str, str]:
    interfaces = port.interfaces
    return interfaces[0].external_ids if len(interfaces) == 1 else {}


def _ofport(port: Any) -> int:
    found = port.interfaces[0].ofport if len(port.interfaces) == 1 else []
    return int(found[0]) if found else 0


def add(ovs: OvsdbIdl, port: PodPort) -> None:
    """Add a pod's port; raises CniError."""
    _execute(ovs, AddPodPort(ovs, port))


def remove(ovs: OvsdbIdl, doomed: Callable[[str, Mapping[str, str], int], bool]) -> Collection[str]:
    """Remove ports; their names. Costs no transaction when there is none."""
    with ovs.ovsdb_connection.lock:
        bridge = _bridge(ovs)
        if bridge is None or not any(doomed(port.name, _ids(port), _ofport(port)) for port in bridge.ports):
            return ()
    return list(_execute(ovs, RemovePorts(ovs, doomed)) or ())


def remove_sandbox(ovs: OvsdbIdl, sandbox: str, ifname: str = "") -> Collection[str]:
    """Remove the ports of a sandbox, or of one of its interfaces."""

    def doomed(_name: str, ids: Mapping[str, str], _ofport: int) -> bool:
        return ids.get("sandbox") == sandbox and ids.get("pod-if-name", ifname) in (
            ifname or ids.get("pod-if-name"),
        )

    return remove(ovs, doomed)


def _execute(ovs: OvsdbIdl, command: BaseCommand) -> Any:
    # The plain transaction: that of ovsdbapp's vswitchd schema waits, and lets all others wait, until
    # ovs-vswitchd has done its work. What must be waited for here is ovn-installed.
    transaction = Transaction(ovs, ovs.ovsdb_connection, check_error=True, log_errors=False)
    transaction.add(command)
    try:
        transaction.commit()
    except CniError:
        raise
    except Exception as error:  # ovsdbapp raises RuntimeError and its own for what the server refuses
        raise CniError(INTERNAL, f"Open vSwitch refused the change: {error}") from error
    return command.result


def interface_ids(ovs: OvsdbIdl, name: str) -> Mapping[str, str] | None:
    """The external_ids of an interface on the integration bridge; None when there is none."""
    with ovs.ovsdb_connection.lock:
        bridge = _bridge(ovs)
        for port in bridge.ports if bridge is not None else ():
            if port.name == name:
                return dict(_ids(port))
    return None


def interface_trouble(ovs: OvsdbIdl, name: str) -> str:
    """What Open vSwitch says is wrong with an interface; empty when nothing."""
    with ovs.ovsdb_connection.lock:
        for row in ovs.tables["Interface"].rows.values():
            if row.name == name:
                return str(row.error[0]) if row.error else ""
    return "no such interface"


def sandboxes(ovs: OvsdbIdl) -> Iterator[tuple[str, str, str, str]]:
    """Of each pod interface: port name, sandbox, interface name in the pod, pod UID."""
    with ovs.ovsdb_connection.lock:
        bridge = _bridge(ovs)
        found = [(port.name, dict(_ids(port))) for port in bridge.ports] if bridge is not None else []
    for name, ids in found:
        if "sandbox" in ids:
            yield name, ids["sandbox"], ids.get("pod-if-name", ""), ids.get("iface-id-ver", "")


def bridge_is_there(ovs: OvsdbIdl) -> bool:
    """Whether ovn-controller has made the integration bridge."""
    with ovs.ovsdb_connection.lock:
        return _bridge(ovs) is not None


def userspace(ovs: OvsdbIdl) -> bool:
    """Whether the integration bridge uses the userspace datapath, which can't take packets without checksums."""
    with ovs.ovsdb_connection.lock:
        bridge = _bridge(ovs)
        return bridge is not None and bridge.datapath_type == "netdev"


# -- events ---------------------------------------------------------------------------------------------------


class InterfaceWatch(RowEvent):  # type: ignore[misc]
    """Wakes whoever waits for a change of an Interface row, by the interface's name. One for the process."""

    def __init__(self) -> None:
        self._waiting: dict[str, threading.Event] = {}
        super().__init__((self.ROW_UPDATE, self.ROW_CREATE, self.ROW_DELETE), "Interface", None)

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity: two watches are never the same, though they ask for the same events."""
        return (*super().key, id(self))

    def match_fn(self, _event: str, row: Any, _old: Any) -> bool:
        """Whether somebody waits for this row."""
        return row.name in self._waiting

    def run(self, _event: str, row: Any, _old: Any) -> None:
        """Wake them."""
        if (waiting := self._waiting.get(row.name)) is not None:
            waiting.set()

    @contextmanager
    def of(self, name: str) -> Iterator[threading.Event]:
        """An event that is set by each change of the interface while the body runs."""
        event = self._waiting[name] = threading.Event()
        try:
            yield event
        finally:
            del self._waiting[name]


def watch(ovs: OvsdbIdl, interfaces: InterfaceWatch) -> None:
    """Have a connection tell `interfaces` of changes; harmless when it does already."""
    handler = getattr(ovs.idl, "notify_handler", None)
    if handler is None:
        handler = RowEventHandler()
        ovs.idl.notify_handler = handler
        ovs.idl.notify = handler.notify
    handler.watch_event(interfaces)
