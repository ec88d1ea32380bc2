"""The node's Open vSwitch as requests see it: reads that wait for nobody, and writes that go together.

ovsdbapp holds its lock while a transaction is on its way, and sends one at a time. With fifty requests at once
each would wait for that several times, though it only wants to know a row.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.backend.ovs_idl.event import RowEvent, RowEventHandler
from ovsdbapp.backend.ovs_idl.transaction import Transaction
from ovsdbapp.exceptions import TimeoutException

from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit_cni.wire import INTERNAL, CniError

if TYPE_CHECKING:
    from uuid import UUID

    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

_ANSWERING = 2.0
"""Seconds that the database server may take to answer."""


def ask_database(path: str) -> None:
    """Return when the server of a database answers; raises OSError. What was read of it once stays readable."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_ANSWERING)
        connection.connect(path)
        connection.sendall(b'{"id":0,"method":"echo","params":[]}')
        if not connection.recv(4096):
            raise ConnectionError("it closed the connection")


class SwitchCommand(BaseCommand):  # type: ignore[misc]
    """A command for `Switch.execute`. Two of the same `subject` never share a transaction; empty: any may."""

    subject = ""


@frozen
class Interface:
    """What Open vSwitch says of an interface."""

    uuid: UUID
    external_ids: Mapping[str, str]
    error: str
    ofport: int = 0
    """-1 when Open vSwitch can't use the device, 0 while it has not looked."""
    ifindex: int = 0
    """The kernel's number of the device that Open vSwitch has open; 0 when it doesn't tell."""
    is_down: bool = False
    """Whether the device was set down."""


@define(eq=False)
class _Pending:
    command: SwitchCommand
    done: bool = field(default=False)
    error: Exception | None = field(default=None)


class Switch:
    """One for the process. Safe from any thread."""

    def __init__(self) -> None:
        self.userspace = False
        """Whether the integration bridge has the userspace datapath, to which packets must come with checksums."""
        self._ovs: OvsdbIdl | None = None
        self.kept: dict[str, Any] = {}
        """Ports of running pods by name (`ports.PodPort`), as they are to be; who removes one takes it out."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a kept port changes or goes, in the connection's thread."""
        self._interfaces: dict[str, Interface] = {}
        self._records: dict[str, tuple[UUID, Mapping[str, str]]] = {}
        self._names: dict[str, set[str]] = {}
        self._waiting: dict[str, threading.Event] = {}
        self._pending: list[_Pending] = []
        self._pending_lock, self._writing = threading.Lock(), threading.Lock()

    @property
    def ovs(self) -> OvsdbIdl:
        """ovsdbapp's commands on it."""
        assert self._ovs is not None
        return self._ovs

    def follow(self, ovs: OvsdbIdl) -> Switch:
        """Be told of changes over this connection from now on; harmless when that is so already."""
        if self._ovs is ovs:
            return self
        with ovs.ovsdb_connection.lock:
            handler = getattr(ovs.idl, "notify_handler", None)
            if handler is None:
                handler = RowEventHandler()
                ovs.idl.notify_handler = handler
                ovs.idl.notify = handler.notify
            handler.watch_event(_Watch(self._note))
            for table in ("Bridge", "Port", "Interface"):
                for row in ovs.tables[table].rows.values():
                    self._note(RowEvent.ROW_CREATE, row)
            self._ovs = ovs
        return self

    # -- reading --------------------------------------------------------------------------------------------------

    def interface(self, name: str) -> Interface | None:
        """An interface as it is now; None when there is none."""
        found = self._interfaces.get(name)
        if found is None or found.uuid in self.ovs.tables["Interface"].rows:
            return found
        # Rows that went while the connection was away went without an event. Those that are still there are away
        # too, while a new connection reads them all: then the lock is held.
        with self.ovs.ovsdb_connection.lock:
            return found if found.uuid in self.ovs.tables["Interface"].rows else None

    def ids(self, name: str) -> Mapping[str, str]:
        """The `external_ids` of a port and its interface together."""
        record, found = self._records.get(name), self._interfaces.get(name)
        return {**(record[1] if record is not None else {}), **(found.external_ids if found is not None else {})}

    def names(self, iface_id: str) -> Collection[str]:
        """Names of the interfaces that are of a pod, or have been."""
        return tuple(self._names.get(iface_id, ()))

    @contextmanager
    def changes(self, name: str, event: threading.Event) -> Iterator[None]:
        """The event is set by each change of the interface while the body runs."""
        self._waiting[name] = event
        try:
            yield
        finally:
            del self._waiting[name]

    def _note(self, event: str, row: Any) -> None:
        """Take note of a change, in the connection's thread."""
        table = row._table.name
        if table == "Bridge" and row.name == INTEGRATION_BRIDGE:
            self.userspace = row.datapath_type == "netdev"
        elif table == "Interface":
            self._note_interface(event, row)
        elif table == "Port":
            self._note_port(event, row)
        if table in ("Interface", "Port") and row.name in self.kept:
            self.on_change()

    def _note_port(self, event: str, row: Any) -> None:
        if event != RowEvent.ROW_DELETE:
            self._records[row.name] = row.uuid, dict(row.external_ids)
        elif (known := self._records.get(row.name)) is not None and known[0] == row.uuid:
            del self._records[row.name]

    def _note_interface(self, event: str, row: Any) -> None:
        name, ids = row.name, dict(row.external_ids)
        iface_id = ids.get("iface-id", "")
        if event == RowEvent.ROW_DELETE:
            known = self._interfaces.get(name)
            if known is None or known.uuid != row.uuid:
                return  # a port of this name has been made meanwhile
            del self._interfaces[name]
            names = self._names.get(iface_id, set())
            names.discard(name)
            if not names:
                self._names.pop(iface_id, None)
        else:
            self._interfaces[name] = Interface(
                row.uuid,
                ids,
                str(row.error[0]) if row.error else "",
                int(row.ofport[0]) if row.ofport else 0,
                int(row.ifindex[0]) if row.ifindex else 0,
                "down" in row.admin_state,
            )
            if iface_id:
                self._names.setdefault(iface_id, set()).add(name)
        if (waiting := self._waiting.get(name)) is not None:
            waiting.set()

    # -- writing --------------------------------------------------------------------------------------------------

    def execute(self, command: SwitchCommand) -> Any:
        """Carry a command out, with those that others wait to have carried out; its result. Raises CniError."""
        mine = _Pending(command)
        with self._pending_lock:
            self._pending.append(mine)
        with self._writing:
            while not mine.done:
                self._write(self._take())
        if isinstance(mine.error, CniError):
            raise mine.error
        if mine.error is not None:
            raise CniError(INTERNAL, f"Open vSwitch refused the change: {mine.error}") from mine.error
        return command.result

    def _take(self) -> list[_Pending]:
        """What goes in the next transaction, oldest first."""
        taken: list[_Pending] = []
        with self._pending_lock:
            for item in self._pending:
                subject = item.command.subject
                if not subject or subject not in {other.command.subject for other in taken}:
                    taken.append(item)
            self._pending = [item for item in self._pending if item not in taken]
        return taken

    def _write(self, batch: list[_Pending]) -> None:
        # The plain transaction: that of ovsdbapp's vswitchd schema waits, and lets all others wait, until
        # ovs-vswitchd has done its work. What must be waited for here is ovn-installed.
        transaction = Transaction(self.ovs, self.ovs.ovsdb_connection, check_error=True, log_errors=False)
        for item in batch:
            transaction.add(item.command)
        try:
            transaction.commit()
        except TimeoutException as error:
            for item in batch:
                item.error = error
        except Exception as error:  # ovsdbapp raises RuntimeError and its own for what the server refuses
            if len(batch) > 1:
                for item in batch:
                    self._write([item])
                return
            batch[0].error = error
        for item in batch:
            item.done = True


class _Watch(RowEvent):  # type: ignore[misc]
    """Tells of all changes, in the connection's thread while ovsdbapp matches the event.

    It would write a row that matches out for its log, wanted or not, copy it, and pass it to another thread.
    """

    def __init__(self, note: Callable[[str, Any], None]) -> None:
        super().__init__((self.ROW_CREATE, self.ROW_UPDATE, self.ROW_DELETE), "Interface", None)
        self._note = note

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity: two watches are never the same, though they ask for the same events."""
        return (*super().key, id(self))

    def matches(self, event: str, row: object, _old: object = None) -> bool:
        """Tell; never a match."""
        self._note(event, row)
        return False

    def run(self, _event: str, _row: object, _old: object) -> None:
        """Never called."""
