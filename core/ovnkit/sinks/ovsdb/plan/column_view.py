"""One column of one row: what is wanted there, by whom, and what may go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model import ledger
from ovnkit.sinks.ovsdb.model.desired import Elements, WantedRow
from ovnkit.sinks.ovsdb.model.live_views import LiveView
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.plan.leftovers import leftover
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.wire.errors import BadValue, Contested, MissingSchema
from ovnkit.sinks.ovsdb.wire.values import atom, map_value, normal

KEPT_KEYS: Mapping[str, tuple[str, ...]] = {"ovs": ("ovn-", "ct-zone-")}
"""Keys in `external_ids` of the vswitch database that ovn-controller writes into rows of others."""


class View:
    """One column of one row: what is wanted there, by whom, and what may go."""

    def __init__(
        self, state: SinkState, record: Record, want: WantedRow | None, content: Mapping[str, Any], name: str
    ) -> None:
        self.record, self.want, self.content, self.name = record, want, content, name
        self._state = state
        self.column = state.desired.schema.column(record.table, name) if state.desired.schema else None
        self.groups: list[Elements] = state.desired.of(state.names(record.uuid), name)
        named = content.get(name)
        self.named: Any = named.elements if isinstance(named, LiveView) else named
        self.named_whole = name in content and (name != "external_ids" or (want is not None and want.owns_ids))
        if self.column is None:
            for group in self.groups:
                for owner in {owner for owners in group.values() for owner in owners}:
                    state.reports.tell(owner, MissingSchema(f"the database has no {record.table}.{name}"))

    def fits(self, element: Any, owner: Owner) -> bool:
        """Whether a member is of the column's type; else its owner gets a report."""
        assert self.column is not None
        if self.named and element in self.named:
            return True
        value = next((group[element][owner] for group in self.groups if owner in group.get(element, ())), None)
        try:
            atom(self.column, self.column.key, value)
        except BadValue as error:
            self._state.reports.tell(owner, error)
            return False
        return True

    def all_wanted(self) -> set[Any]:
        """Every element or key that is wanted."""
        found = set(self.named or ())
        for group in self.groups:
            found |= group.keys()
        return found

    def wants(self, element: Any) -> Owner | None:
        """Who wants an element or key; of several the row's owner, then the first by name."""
        if self.want is not None and self.named and element in self.named:
            return self.want.owner
        owners = [owner for group in self.groups for owner in group.get(element, ())]
        if not owners:
            return None
        if len(owners) == 1:
            return owners[0]
        return min((o for o in owners if self._state.gate(o)), key=str, default=min(owners, key=str))

    def value_of(self, key: Any) -> Any:
        """The value wanted for a key; None (and a report) when it can't be."""
        assert self.column is not None
        column, place = self.column, f"{self.name}:{key}"
        if self.want is not None and self.named and key in self.named:
            value = self.named[key]
            self._report_contested(self.want.owner, key, lambda other: map_value(column, other) == value, place)
            return value
        owner = self.wants(key)
        value = next((group[key][owner] for group in self.groups if key in group and owner in group[key]), None)
        try:
            found = map_value(column, value)
        except BadValue as error:
            if owner is not None:
                self._state.reports.tell(owner, error)
            return None
        self._report_contested(owner, key, lambda other: map_value(column, other) == found, place)
        return found

    def report_contested(self, winner: Owner, value: Any) -> None:
        """Tell those who want another value in this scalar that `winner` has it."""
        assert self.column is not None
        column = self.column
        for group in self.groups:
            for element in group:
                self._report_contested(winner, element, lambda other: normal(column, other) == value, self.name)

    def _report_contested(
        self, winner: Owner | None, element: Any, same: Callable[[Any], bool], place: str
    ) -> None:
        for group in self.groups:
            for owner, other in group.get(element, {}).items():
                try:
                    agrees = owner == winner or same(other)
                except BadValue as error:
                    self._state.reports.tell(owner, error)
                    continue
                if not agrees:
                    path = self.want.path if self.want is not None else self.record.values.get("name", "")
                    where = f"{self.record.table} {path or self.record.uuid}, {place}"
                    self._state.reports.tell(
                        owner, Contested(f"{where}: {other!r} is not written: {winner} decides")
                    )

    def scalar_owner(self) -> Owner | None:
        """Who decides on a scalar."""
        if self.want is not None and self.name in self.content:
            return self.want.owner
        owners = {owner for group in self.groups for held in group.values() for owner in held}
        return min((o for o in owners if self._state.gate(o)), key=str, default=None) or (
            min(owners, key=str) if owners else None
        )

    def scalar_value(self, owner: Owner) -> Any:
        """The value its owner wants; the present one (and a report) when it can't be."""
        assert self.column is not None
        if self.name in self.content:
            return self.content[self.name]
        for group in self.groups:
            for held in group.values():
                if owner in held:
                    try:
                        return normal(self.column, held[owner])
                    except BadValue as error:
                        self._state.reports.tell(owner, error)
        return self.record.values[self.name]

    def holds(self, element: Any) -> bool:
        """Whether the element or key is there."""
        actual = self.record.values[self.name]
        return element == ledger.SCALAR or (isinstance(actual, (AbstractSet, Mapping)) and element in actual)

    def keeps_ledger(self, element: Any) -> bool:
        """Whether a member must be entered in the row's ledger to be known again."""
        if "external_ids" not in self.record.values or self.named_whole:
            return False
        if self.name == "external_ids" and ledger.is_ours(element):
            return False
        ours = self.want is not None or self._state.is_ours(self.record.uuid)
        refers = self.column is not None and self.column.reference is not None
        return not (ours and refers and self._state.is_ours(element))

    def ledger_entry(self, element: Any) -> str | None:
        """The former value as written in the ledger, None when there is no entry."""
        ids = self.record.values.get("external_ids")
        return ids.get(ledger.member_key(self.name, element)) if ids else None

    def ledger_elements(self) -> set[Any]:
        """Elements or keys of this column that the ledger names."""
        ids = self.record.values["external_ids"]
        return {self.parse(text) for column, text, _ in ledger.entries(ids) if column == self.name}

    def parse(self, text: str) -> Any:
        """An element or key from its text in the ledger."""
        assert self.column is not None
        if self.column.key.type == "integer" and re.fullmatch(r"-?[0-9]{1,19}", text):
            return int(text)
        return text

    def may_remove(self, element: Any) -> Owner | None:
        """On whose behalf an element nobody wants is removed; None when it stays."""
        if self.ledger_entry(element) is not None:
            return leftover(self.record.uuid)
        if self.want is None:
            return None
        if self.name in self.content and self.named_whole:
            return None if self._is_kept(element) else self.want.owner
        if self.column is not None and self.column.reference is not None and self._state.is_ours(element):
            return leftover(self.record.uuid)
        return None

    def _is_kept(self, key: Any) -> bool:
        """Whether a key of a map is somebody else's by convention."""
        kept = KEPT_KEYS.get(self._state.db, ()) if self.name == "external_ids" else ()
        return bool(kept) and str(key).startswith(kept)
