"""The difference between a row as wanted and as it is, column by column, element by element.

`Differ.compare` yields edits, each with what it needs (`edits.Edit`). It writes nothing and asks nobody: whether
the needs can be met in the transaction at hand is the planner's to decide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ovnkit.api.identity import OWNER_KEY
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model import ledger
from ovnkit.sinks.ovsdb.model.desired import WantedRow
from ovnkit.sinks.ovsdb.model.live_views import LiveView
from ovnkit.sinks.ovsdb.model.names import NAMING, SIGNS
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.plan.batch import Touched
from ovnkit.sinks.ovsdb.plan.column_view import View
from ovnkit.sinks.ovsdb.plan.edits import Edit, EditKind
from ovnkit.sinks.ovsdb.plan.leftovers import leftover
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.wire.schema import Column, Schema, Shape
from ovnkit.sinks.ovsdb.wire.values import default


class Differ:
    """Compares rows. It reads the state, and reports to owners what can't be written."""

    def __init__(self, state: SinkState, schema: Schema) -> None:
        self._state = state
        self._desired = state.desired
        self._schema = schema

    def compare(
        self, record: Record, want: WantedRow | None, content: Mapping[str, Any] | None, touched: Touched
    ) -> Iterator[Edit]:
        """All differences of a row that exists.

        `content` is what a wanted row holds, None when that can't be written to this database: then only what
        members put into other columns is compared.
        """
        frozen: Collection[str] = ()
        if content is None:
            assert want is not None
            content, frozen = {}, {*want.row.columns, "external_ids"}
        if touched is None and want is not None and self._same(record, want, content):
            record.share(content)
            return
        columns = touched if touched is not None else dict.fromkeys(self._columns(record, want, content))
        for name, elements in columns.items():
            view = View(self._state, record, want, content, name)
            if view.column is None or name not in record.values or name in frozen:
                continue
            if view.column.shape is Shape.SET:
                yield from self._set(view, view.column, elements)
            elif view.column.shape is Shape.MAP:
                yield from self._map(view, view.column, elements)
            else:
                yield from self._scalar(view, view.column)

    def beyond_content(
        self, record: Record, want: WantedRow, content: Mapping[str, Any], touched: Touched
    ) -> dict[str, set[Any] | None]:
        """What a row that is about to be inserted gets beside its own content, in the form of `touched`: members,
        and elements of live sets that are written one by one."""
        members, names_of_row = self._desired.members, self._state.names(record.uuid)
        if touched is None and not want.live and not any(target in members for target in names_of_row):
            return {}
        names = set(content) if touched is None else set(touched)
        if touched is None:
            for target in names_of_row:
                names.update(members.get(target, ()))
        part: dict[str, set[Any] | None] = {}
        for name in names:
            value = content.get(name)
            view = View(self._state, record, want, content, name)
            if view.column is None or not (view.groups or isinstance(value, LiveView)):
                continue
            elements = None if touched is None else touched[name]
            if isinstance(value, LiveView):
                value = value.elements if is_inserted_whole(self._schema, want, name, value) else None
                if value and touched is None and not view.groups:
                    continue
            wanted = view.all_wanted() if elements is None else elements
            if value:
                if isinstance(value, dict):
                    for key in wanted.intersection(value):
                        view.value_of(key)  # tells those who want another one
                wanted = wanted.difference(value)
            part[name] = None if view.column.shape is Shape.SCALAR else wanted
        return part

    def _same(self, record: Record, want: WantedRow, content: Mapping[str, Any]) -> bool:
        """Whether a row without members is as it should be: the quick answer to most comparisons."""
        members = self._desired.members
        if not content or want.live or record.uuid in self._state.marks.ledgered:
            return False
        if any(target in members for target in self._state.names(record.uuid)):
            return False
        values = record.values
        for name, value in content.items():
            if values.get(name, self) != value and not (
                name == "external_ids"
                and not want.owns_ids
                and values.get(name, {}).get(OWNER_KEY) == value[OWNER_KEY]
            ):
                return False
        columns = self._schema.tables[record.table].columns
        return not any(
            values[name] and name not in content and columns[name].reference is not None for name in values
        )

    def _columns(self, record: Record, want: WantedRow | None, content: Mapping[str, Any]) -> Iterable[str]:
        """Every column that anybody has a say in."""
        found = dict.fromkeys(content)
        for target in self._state.names(record.uuid):
            found.update(dict.fromkeys(self._desired.members.get(target, ())))
        ids = record.values.get("external_ids")
        if ids:
            if record.uuid in self._state.marks.ledgered:
                found.update(dict.fromkeys(column for column, _, _ in ledger.entries(ids)))
            if any(key.startswith(ledger.ROW_PREFIX) for key in ids):
                found["external_ids"] = None
        if want is not None:
            columns = self._schema.tables[record.table].columns
            found.update(dict.fromkeys(name for name in record.values if columns[name].reference is not None))
        return found

    # --- sets -------------------------------------------------------------------------------------------------

    def _set(self, view: View, column: Column, elements: set[Any] | None) -> Iterator[Edit]:
        actual = view.record.values[view.name]
        if elements is None:
            wanted = view.all_wanted()
            elements = wanted ^ actual if wanted != actual else set()
            if view.record.uuid in self._state.marks.ledgered:
                elements |= view.ledger_elements()
        extra = []
        for element in elements:
            owner = view.wants(element)
            if owner is None:
                extra.append(element)
            elif element not in actual and self._state.gate(owner) and view.fits(element, owner):
                yield Edit(
                    owner,
                    column,
                    EditKind.ADD,
                    element,
                    target=element if column.reference is not None else None,
                    entered=self._entry(view, element, "") if view.keeps_ledger(element) else None,
                )
        for element in extra:
            yield from self._remove(view, column, element, present=element in actual)

    def _remove(self, view: View, column: Column, element: Any, *, present: bool) -> Iterator[Edit]:
        owner = self._remover(view, element)
        if owner is None or self._state.marks.is_kept(element):
            return
        struck = self._struck(view, element)
        if present:
            strong = column.reference is not None and column.reference.strong
            released = element if strong else None
            yield Edit(owner, column, EditKind.REMOVE, element, released=released, struck=struck)
        elif struck is not None:
            yield Edit(owner, column, EditKind.NOTHING, struck=struck)

    def _remover(self, view: View, element: Any) -> Owner | None:
        """On whose behalf an element or key goes now; None when it stays."""
        owner = view.may_remove(element)
        if owner is None or not self._state.may_take_from(view.record.uuid) or not self._state.gate(owner):
            return None
        return owner

    # --- maps -------------------------------------------------------------------------------------------------

    def _map(self, view: View, column: Column, keys: set[Any] | None) -> Iterator[Edit]:
        actual = view.record.values[view.name]
        if keys is None:
            keys = view.all_wanted() | actual.keys()
            if view.record.uuid in self._state.marks.ledgered:
                keys |= view.ledger_elements()
        for key in keys:
            owner = view.wants(key)
            if owner is None:
                if view.name == "external_ids" and ledger.is_ours(key):
                    yield from self._own_key(view, column, key)
                else:
                    yield from self._remove_key(view, column, key)
                continue
            value = view.value_of(key)
            if value is None or actual.get(key) == value or not self._state.gate(owner):
                continue
            entered = None
            if view.keeps_ledger(key):
                entered = self._entry(view, key, ledger.write_former(actual.get(key), None))
            target = value if column.reference is not None else None
            yield Edit(owner, column, EditKind.PUT, key, value, key in actual, target=target, entered=entered)

    def _remove_key(self, view: View, column: Column, key: Any) -> Iterator[Edit]:
        owner = self._remover(view, key)
        if owner is None:
            return
        actual = view.record.values[view.name]
        struck = self._struck(view, key)
        former = ledger.read_former(view.ledger_entry(key) or "", None)
        if former is not None and actual.get(key) != former:
            yield Edit(owner, column, EditKind.PUT, key, former, key in actual, struck=struck)
        elif former is None and key in actual:
            yield Edit(owner, column, EditKind.DROP, key, struck=struck)
        elif struck is not None:
            yield Edit(owner, column, EditKind.NOTHING, struck=struck)

    def _own_key(self, view: View, column: Column, key: str) -> Iterator[Edit]:
        """A key of the ledger, or an owner mark on a row that isn't wanted (whose deletion is planned)."""
        actual = view.record.values[view.name]
        owner = leftover(view.record.uuid)
        if key == OWNER_KEY or not self._state.gate(owner):
            return
        if key.startswith(ledger.ROW_PREFIX):
            gone = key[len(ledger.ROW_PREFIX) :] not in self._state.replica.rows
            if key in actual and gone and self._state.may_take_from(view.record.uuid):
                yield Edit(owner, column, EditKind.DROP, key)
            return
        name, _, text = key[len(ledger.MEMBER_PREFIX) :].partition("/")
        other = View(self._state, view.record, view.want, view.content, name)
        if other.column is None or name not in view.record.values:
            return
        element = other.parse(text)
        if key in actual:
            if other.wants(element) is None or other.named_whole:
                self._state.touch(view.record.uuid, name, (element,))
                if other.named_whole and self._state.may_take_from(view.record.uuid):
                    yield Edit(owner, column, EditKind.DROP, key)
        elif other.wants(element) is not None and other.keeps_ledger(element) and other.holds(element):
            yield Edit(owner, column, EditKind.PUT, key, "")

    # --- scalars ----------------------------------------------------------------------------------------------

    def _scalar(self, view: View, column: Column) -> Iterator[Edit]:
        actual = view.record.values[view.name]
        owner = view.scalar_owner()
        if owner is None:
            yield from self._restore(view, column)
            return
        value = view.scalar_value(owner)
        if view.groups:
            view.report_contested(owner, value)
        if value == actual or (value is None and column.min) or not self._state.gate(owner):
            return
        entered = None
        if view.name not in view.content and view.keeps_ledger(ledger.SCALAR):
            entered = self._entry(view, ledger.SCALAR, ledger.write_former(actual, default(column)))
        reference = column.reference
        yield Edit(
            owner,
            column,
            EditKind.ASSIGN,
            value=value,
            target=value if reference is not None else None,
            named=view.want.named if view.name in NAMING and view.want is not None else (),
            released=actual if reference is not None and reference.strong else None,
            renames=view.name == "name" and view.record.table in SIGNS,
            entered=entered,
        )

    def _restore(self, view: View, column: Column) -> Iterator[Edit]:
        """Nobody wants a value in a scalar any more: what was there before comes back."""
        text = view.ledger_entry(ledger.SCALAR)
        owner = leftover(view.record.uuid)
        if text is None or not self._state.may_take_from(view.record.uuid) or not self._state.gate(owner):
            return
        former, struck = ledger.read_former(text, default(column)), self._struck(view, ledger.SCALAR)
        change = EditKind.ASSIGN if former != view.record.values[view.name] else EditKind.NOTHING
        yield Edit(owner, column, change, value=former, struck=struck)

    # --- the ledger -------------------------------------------------------------------------------------------

    def _entry(self, view: View, element: Any, former: str) -> tuple[str, str] | None:
        key = ledger.member_key(view.name, element)
        return (key, former) if key not in view.record.values["external_ids"] else None

    def _struck(self, view: View, element: Any) -> str | None:
        return ledger.member_key(view.name, element) if view.ledger_entry(element) is not None else None


def is_inserted_whole(schema: Schema, want: WantedRow, name: str, live: LiveView) -> bool:
    """Whether a new row gets a live set as it is; references go one by one, as their rows may be missing."""
    return bool(live.elements) and schema.tables[want.table].columns[name].reference is None
