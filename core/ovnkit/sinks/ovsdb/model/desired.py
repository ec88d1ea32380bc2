"""What the owners want: rows, members, and which rows of the database the members are for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import define

from ovnkit.api.identity import OWNER_KEY, RowId
from ovnkit.api.items import Absent, Lookup, Member, Ref, Row, Slot
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import Match
from ovnkit.api.matches.syntax import fault
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model.ledger import ROW_PREFIX
from ovnkit.sinks.ovsdb.model.live_views import LiveView, LiveViews
from ovnkit.sinks.ovsdb.model.names import MATCH, WITHOUT_MATCH
from ovnkit.sinks.ovsdb.wire.errors import BadValue, MissingSchema
from ovnkit.sinks.ovsdb.wire.schema import Schema, Shape, TableSchema
from ovnkit.sinks.ovsdb.wire.values import element_of, normal

RowTarget = str | Lookup
"""A row by UUID (ours), or one to be looked up."""
Elements = dict[Any, dict[Owner, Any]]
"""By element, or key of a map: who wants it, and with which value."""


WantedMember = tuple[RowTarget, str, str, Any, Any]
"""A member: (target, its table, column, element, value)."""
_NO_REFS: Mapping[str, Sequence[str]] = MappingProxyType({})


@define(eq=False)
class WantedRow:
    """A wanted row. `content` is its columns in the form of the replica, made when the schema is known."""

    uuid: str
    owner: Owner
    path: str
    row: Row
    content: dict[str, Any] | None = None
    refs: Mapping[str, Sequence[str]] = _NO_REFS
    """References in the named columns (live sets left out), and rows that texts name, by column."""
    named: tuple[str, ...] = ()
    """The rows that texts name."""
    live: tuple[str, ...] = ()
    """The columns that hold live sets."""
    owns_ids: bool = False
    """Whether the row names `external_ids`, so that unknown keys go."""
    parent: tuple[RowTarget, str] | None = None

    @property
    def table(self) -> str:
        """The table the row is for."""
        return self.row.table


@define
class OwnerItems:
    """What one owner wants."""

    items: Sequence[Any]
    rows: Sequence[WantedRow] = ()
    members: Sequence[WantedMember] = ()
    unwanted: Sequence[str] = ()
    """Rows of others that are to go."""


class Desired:
    """Everything that is wanted of one database, kept so that a change of one owner costs only its own items.

    `touch(target, column, element)` is called for all that may differ now; column None is the whole row.
    """

    def __init__(self, db: str, live: LiveViews, touch: Callable[[RowTarget, str | None, Any], None]) -> None:
        self.rows: dict[str, WantedRow] = {}
        self.members: dict[RowTarget, dict[str, Elements]] = {}
        self.owners: dict[Owner, OwnerItems] = {}
        self.unwanted: dict[str, Owner] = {}
        """Rows of others that are to go, and who says so."""
        self.schema: Schema | None = None
        self._db = db
        self._live = live
        self._touch = touch

    def want(self, owner: Owner, items: Sequence[Any]) -> None:
        """Replace what an owner wants. Raises BadValue when two rows have one name; the first one counts."""
        before = self.owners.pop(owner, None) or OwnerItems(())
        doubled = ""
        mine: dict[str, WantedRow] = {}
        members: list[WantedMember] = []
        unwanted: list[str] = []
        former = {want.row.name: want for want in before.rows}
        for item in items:
            if item.db != self._db:
                continue
            if isinstance(item, Row):
                if not self._is_for_schema(item):
                    continue
                if item.name in mine:
                    doubled = doubled or f"two rows are named {item.name!r}"
                    continue
                want = mine[item.name] = self._row(owner, item, former.get(item.name))
                members += self._row_members(want)
            elif isinstance(item, Member):
                target = target_of(item.slot)
                element = element_of(item.value) if item.key is None else item.key
                members.append((target, item.slot.table, item.slot.column, element, item.value))
            elif isinstance(item, Absent):
                unwanted.append(item.uuid)
        # tuples: there is one of these for each pod
        wanted_items = OwnerItems(items, tuple(mine.values()), tuple(members), tuple(unwanted))
        for uuid in before.unwanted:
            if self.unwanted.get(uuid) == owner:
                del self.unwanted[uuid]
        self.unwanted.update(dict.fromkeys(wanted_items.unwanted, owner))
        for want in before.rows:
            if mine.get(want.row.name) is not want:
                self._drop_row(want)
        for want in wanted_items.rows:
            if former.get(want.row.name) is not want:
                self.rows[want.uuid] = want
                self._touch(want.uuid, None, None)
        self._replace_members(owner, before, wanted_items)
        if items:
            self.owners[owner] = wanted_items
        if doubled:
            raise BadValue(doubled)

    def use_schema(self, schema: Schema) -> None:
        """Forget what was derived from another schema."""
        if schema is self.schema:
            return
        self.schema = schema
        for owner, wanted_items in list(self.owners.items()):
            if any(isinstance(item, Row) and item.only_with for item in wanted_items.items):
                self.want(owner, wanted_items.items)
        for owner, wanted_items in self.owners.items():
            members = [entry for entry in wanted_items.members if not is_row_entry(entry[3])]
            for want in wanted_items.rows:
                self._release(want)
                members += self._row_entry(want)
            fresh = OwnerItems(wanted_items.items, wanted_items.rows, tuple(members), wanted_items.unwanted)
            self._replace_members(owner, wanted_items, fresh)
            self.owners[owner] = fresh

    def content(self, want: WantedRow) -> dict[str, Any]:
        """The columns of a wanted row; raises BadValue or MissingSchema."""
        if want.content is None:
            assert self.schema is not None
            table = self.schema.tables.get(want.table)
            if table is None:
                raise MissingSchema(f"{self.schema.name} {self.schema.version} has no table {want.table}")
            try:
                want.content = self._derive(want, table)
            except Exception:
                self._release(want)
                raise
        return want.content

    def owners_of_match(self, text: str) -> list[Owner]:
        """Who wants a row whose match is all of a text, or a part of it in parentheses."""
        found: dict[Owner, None] = {}
        for want in self.rows.values():
            match = str(want.row.columns.get(MATCH) or "")
            if match and (match == text or f"({match})" in text):
                found[want.owner] = None
        return list(found)

    def of(self, targets: Iterable[RowTarget], column: str) -> list[Elements]:
        """The members for a column of a row that goes by these names."""
        found = (self.members.get(target, {}).get(column) for target in targets)
        return [elements for elements in found if elements]

    def _is_for_schema(self, row: Row) -> bool:
        """Whether the database has what the row makes no sense without; as long as that isn't known, yes."""
        if not row.only_with or self.schema is None:
            return True
        table = self.schema.tables.get(row.table)
        return table is None or all(name in table.columns for name in row.only_with)

    def _row(self, owner: Owner, row: Row, former: WantedRow | None) -> WantedRow:
        if former is not None and former.row == row:
            return former
        identity = former or RowId(owner.plugin, owner.renderer, owner.key, row.name)
        parent = None if row.parent is None else (target_of(row.parent), row.parent.column)
        return WantedRow(identity.uuid, owner, identity.path, row, parent=parent)

    def _row_members(self, want: WantedRow) -> Iterable[WantedMember]:
        parent = want.row.parent
        if parent is not None:
            yield target_of(parent), parent.table, parent.column, want.uuid, Ref(want.uuid)
        yield from self._row_entry(want)

    def _row_entry(self, want: WantedRow) -> Iterable[WantedMember]:
        """A row in a table without external_ids is entered in the ledger of the database."""
        if self.schema is None or not self.schema.singleton:
            return
        table = self.schema.tables.get(want.table)
        if table is not None and "external_ids" not in table.columns:
            singleton = self.schema.singleton
            key = ROW_PREFIX + want.uuid
            text = f"{want.table} {want.path}"
            yield Lookup(singleton), singleton, "external_ids", key, text

    def _replace_members(self, owner: Owner, before: OwnerItems, after: OwnerItems) -> None:
        former = {(entry[0], entry[2], entry[3]): entry for entry in before.members}
        for entry in after.members:
            target, _, column, element, value = entry
            known = former.pop((target, column, element), None)
            if known is not None and known[4] == value:
                continue
            columns = self.members.setdefault(target, {})
            columns.setdefault(column, {}).setdefault(element, {})[owner] = value
            self._touch(target, column, element)
        for target, _, column, element, _ in former.values():
            self._drop_member(owner, target, column, element)

    def _drop_member(self, owner: Owner, target: RowTarget, column: str, element: Any) -> None:
        columns = self.members[target]
        owners = columns[column][element]
        owners.pop(owner, None)
        if not owners:
            del columns[column][element]
            if not columns[column]:
                del columns[column]
            if not columns:
                del self.members[target]
        self._touch(target, column, element)

    def _drop_row(self, want: WantedRow) -> None:
        self._release(want)
        if self.rows.get(want.uuid) is want:
            del self.rows[want.uuid]
        self._touch(want.uuid, None, None)

    def _release(self, want: WantedRow) -> None:
        for name, value in (want.content or {}).items():
            if isinstance(value, LiveView):
                self._live.release(value, want.uuid, name)
        want.content = None
        want.refs = _NO_REFS

    def _derive(self, want: WantedRow, table: TableSchema) -> dict[str, Any]:
        assert self.schema is not None
        content: dict[str, Any] = {}
        refs: dict[str, Sequence[str]] = {}
        named: list[str] = []
        want.content, want.refs, want.live = content, _NO_REFS, ()
        for name, value in want.row.columns.items():
            column = table.columns.get(name)
            if column is None:
                if value is None or name in want.row.optional or (isinstance(value, Collection) and not value):
                    continue
                raise MissingSchema(f"{self.schema.name} {self.schema.version} has no {table.name}.{name}")
            if isinstance(value, LiveSet):
                if column.shape is not Shape.SET:
                    raise BadValue(f"{column} can't hold a live set")
                content[name] = self._live.use(value, column, want.uuid)
                want.live += (name,)
                continue
            if isinstance(value, Match):
                refs[name] = sorted(value.names)
                named += refs[name]
                value = value.text
            content[name] = normal(column, value)
            if name == MATCH:
                _check_match(table, content[name])
            if column.reference is not None and content[name]:
                found = content[name]
                refs[name] = [found] if isinstance(found, str) else sorted(
                    found.values() if isinstance(found, dict) else found
                )  # fmt: skip
        want.refs = {name: targets for name, targets in refs.items() if targets} or _NO_REFS
        want.named = tuple(named)
        want.owns_ids = "external_ids" in content
        if "external_ids" in table.columns:
            content["external_ids"] = {**content.get("external_ids", {}), OWNER_KEY: want.path}
        return content


def target_of(slot: Slot) -> RowTarget:
    """The row a slot is in."""
    return slot.row.uuid if isinstance(slot.row, RowId) else slot.row


def _check_match(table: TableSchema, text: str) -> None:
    """OVN would log an error and leave out a match that it can't parse, and nobody would see it."""
    if not text and table.name in WITHOUT_MATCH:
        return
    if reason := fault(text):
        raise BadValue(f"{table.name}.{MATCH}: OVN can't parse {text!r}: {reason}")


def is_row_entry(element: Any) -> bool:
    """Whether an element is a key of the ledger of rows."""
    return isinstance(element, str) and element.startswith(ROW_PREFIX)
