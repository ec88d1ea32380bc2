"""The replica: what is in the database now, as far as it is monitored. Lives in the reconciler's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field

from ovnkit.sinks.ovsdb.wire.monitor import Delta, Op
from ovnkit.sinks.ovsdb.wire.schema import Schema, Shape

_EMPTY: Mapping[str, Record] = {}


@define(eq=False)
class Record:
    """A row: its columns in the form of `values`. Nobody but the replica changes it."""

    table: str
    uuid: str
    values: dict[str, Any]
    _shares: bool = False

    def share(self, values: Mapping[str, Any]) -> None:
        """Hold these values instead of its own, where they are equal: one object in memory instead of two.

        They are copied before the record changes.
        """
        mine = self.values
        for name, value in values.items():
            if name in mine and mine[name] == value:
                mine[name] = value
        self._shares = True

    def unshare(self) -> None:
        """Have sets and maps of its own, that may be changed."""
        if self._shares:
            self._shares = False
            for name, value in self.values.items():
                if isinstance(value, (set, frozenset)):
                    self.values[name] = set(value)
                elif isinstance(value, dict):
                    self.values[name] = dict(value)


@define(eq=False)
class RowChange:
    """What became of a record.

    `columns` is None when the row came or went; else it names the columns that changed and, of sets and maps,
    the elements or keys concerned.
    """

    record: Record
    gone: bool = False
    columns: dict[str, Any] | None = None
    before: dict[str, Any] = field(factory=dict)
    """Former values of the scalars that changed."""


Watcher = Callable[[list[RowChange]], None]
IndexKey = tuple[Any, ...]


class Replica:
    """Rows by UUID and by table, with look-up by unique columns and by strong references."""

    def __init__(self) -> None:
        self.schema: Schema | None = None
        self.columns: Mapping[str, frozenset[str]] = {}
        self.rows: dict[str, Record] = {}
        self.tables: dict[str, dict[str, Record]] = {}
        self._referrers: dict[str, list[tuple[str, str]]] = {}
        self._strong: dict[str, tuple[str, ...]] = {}
        self._indexes: dict[tuple[str, tuple[str, ...]], dict[IndexKey, set[str]]] = {}
        self._indexed: dict[str, list[tuple[str, ...]]] = {}

    def begin(self, schema: Schema, columns: Mapping[str, Iterable[str]]) -> None:
        """Start afresh: the next deltas are the whole content."""
        self.schema = schema
        self.columns = {table: frozenset(names) for table, names in columns.items()}
        self.rows.clear()
        self.tables = {table: {} for table in columns}
        self._referrers.clear()
        self._indexes.clear()
        self._indexed.clear()
        self._strong = {}
        for table, names in self.columns.items():
            described = schema.tables[table]
            self._strong[table] = tuple(
                column.name
                for column in described.columns.values()
                if column.name in names and (ref := column.reference) is not None and ref.strong
            )
            for index in described.keys:
                if names.issuperset(index):
                    self._add_index(table, index)

    def apply(self, deltas: Iterable[Delta]) -> list[RowChange]:
        """Take over what the server reported; returns what changed, in order."""
        changes = []
        for delta in deltas:
            record = self.rows.get(delta.uuid)
            if record is not None and record.table != delta.table:
                self._remove(record)
                changes.append(RowChange(record, gone=True))
                record = None
            if delta.op is Op.DELETE:
                if record is not None:
                    self._remove(record)
                    changes.append(RowChange(record, gone=True))
            elif record is None:
                if delta.op is Op.INSERT:
                    record = Record(delta.table, delta.uuid, delta.content)
                    self._insert(record)
                    changes.append(RowChange(record))
            else:
                changes.append(self._modify(record, delta))
        return changes

    def table(self, name: str) -> Mapping[str, Record]:
        """The rows of a table by UUID; empty when it isn't monitored."""
        return self.tables.get(name, _EMPTY)

    def referrers(self, uuid: str) -> list[tuple[str, str]]:
        """The strong references to a row: (UUID of the row that refers to it, column)."""
        return self._referrers.get(uuid, [])

    def find(self, table: str, columns: tuple[str, ...], key: IndexKey) -> set[str]:
        """UUIDs of the rows with these values in these (scalar) columns, by an index that is made when needed."""
        index = self._indexes.get((table, columns))
        if index is None:
            if not self.columns.get(table, frozenset()).issuperset(columns):
                return set()
            index = self._add_index(table, columns)
        return index.get(key, set())

    def _add_index(self, table: str, columns: tuple[str, ...]) -> dict[IndexKey, set[str]]:
        index: dict[IndexKey, set[str]] = {}
        self._indexes[table, columns] = index
        self._indexed.setdefault(table, []).append(columns)
        for record in self.tables[table].values():
            index.setdefault(index_key(record.values, columns), set()).add(record.uuid)
        return index

    def _insert(self, record: Record) -> None:
        self.rows[record.uuid] = record
        self.tables[record.table][record.uuid] = record
        self._enter(record, self._strong[record.table])

    def _remove(self, record: Record) -> None:
        self._leave(record, self._strong[record.table])
        del self.rows[record.uuid]
        del self.tables[record.table][record.uuid]

    def _enter(self, record: Record, strong: Iterable[str]) -> None:
        for columns in self._indexed.get(record.table, ()):
            key = index_key(record.values, columns)
            self._indexes[record.table, columns].setdefault(key, set()).add(record.uuid)
        for name in strong:
            for target in references(record.values[name]):
                self._referrers.setdefault(target, []).append((record.uuid, name))

    def _leave(self, record: Record, strong: Iterable[str]) -> None:
        for columns in self._indexed.get(record.table, ()):
            key = index_key(record.values, columns)
            bucket = self._indexes[record.table, columns].get(key)
            if bucket is not None:
                bucket.discard(record.uuid)
                if not bucket:
                    del self._indexes[record.table, columns][key]
        for name in strong:
            for target in references(record.values[name]):
                self._unrefer(target, record.uuid, name)

    def _unrefer(self, target: str, uuid: str, column: str) -> None:
        entries = self._referrers.get(target)
        if entries is not None and (uuid, column) in entries:
            entries.remove((uuid, column))
            if not entries:
                del self._referrers[target]

    def _modify(self, record: Record, delta: Delta) -> RowChange:
        assert self.schema is not None
        described = self.schema.tables[record.table].columns
        strong = self._strong[record.table]
        record.unshare()
        change = RowChange(record, columns={})
        assert change.columns is not None
        scalars = {n: v for n, v in delta.content.items() if described[n].shape is Shape.SCALAR}
        if delta.op is not Op.MODIFY:
            scalars = delta.content
        if scalars:
            affected = [name for name in strong if name in scalars]
            self._leave(record, affected)
            for name, value in scalars.items():
                change.before[name] = record.values[name]
                change.columns[name] = _difference(record.values[name], value)
                record.values[name] = value
            self._enter(record, affected)
        if delta.op is Op.MODIFY:
            for name, value in delta.content.items():
                if name not in scalars:
                    self._toggle(record, name, value, name in strong)
                    change.columns[name] = set(value)
        return change

    def _toggle(self, record: Record, name: str, value: Any, strong: bool) -> None:
        """Apply the difference of a set (elements in one of the two) or a map (see ovsdb-server(7), `update2`)."""
        content = record.values[name]
        if isinstance(value, dict):
            for key, item in value.items():
                former = content.get(key)
                if strong and former is not None:
                    self._unrefer(former, record.uuid, name)
                if former == item:
                    del content[key]
                    continue
                content[key] = item
                if strong:
                    self._referrers.setdefault(item, []).append((record.uuid, name))
            return
        if strong:
            for target in value:
                if target in content:
                    self._unrefer(target, record.uuid, name)
                else:
                    self._referrers.setdefault(target, []).append((record.uuid, name))
        content ^= value


def references(value: Any) -> Iterable[str]:
    """The UUIDs in the value of a column that refers to rows."""
    if value is None:
        return ()
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, (set, frozenset)) else (value,)


def index_key(values: Mapping[str, Any], columns: tuple[str, ...]) -> IndexKey:
    """The key of a row in an index over `columns`."""
    if len(columns) == 1:
        return (_hashable(values[columns[0]]),)
    return tuple(_hashable(values[name]) for name in columns)


def _hashable(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


def _difference(old: Any, new: Any) -> Any:
    if isinstance(old, set):
        return old ^ new
    if isinstance(old, dict):
        return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return None


def raw_row(record: Record) -> dict[str, Any]:
    """A record as the source of a view: sets as sorted tuples, maps as copies, `_uuid` added."""
    raw: dict[str, Any] = {"_uuid": record.uuid}
    for name, value in record.values.items():
        if isinstance(value, (set, frozenset)):
            raw[name] = tuple(sorted(value))
        else:
            raw[name] = dict(value) if isinstance(value, dict) else value
    return raw
