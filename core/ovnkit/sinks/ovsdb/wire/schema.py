"""The schema of a database, as the server describes it (RFC 7047, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cached_property
from typing import Any

from attrs import define, field, frozen

UNLIMITED = 2**63 - 1


class Shape(Enum):
    """How a column's content is held in Python."""

    SCALAR = "scalar"
    """One value, or None when it is optional and empty."""
    SET = "set"
    MAP = "map"


@frozen
class Base:
    """Type of an atom: `integer`, `real`, `boolean`, `string` or `uuid`, with its limits."""

    type: str
    ref_table: str = ""
    strong: bool = False
    enum: frozenset[Any] | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None

    @classmethod
    def parse(cls, raw: str | Mapping[str, Any]) -> Base:
        """From the JSON of a `<base-type>`."""
        if isinstance(raw, str):
            return cls(raw)
        enum = raw.get("enum")
        if enum is not None:
            enum = frozenset(enum[1]) if isinstance(enum, list) and enum[0] == "set" else frozenset({enum})
        minimum = raw.get("minInteger", raw.get("minReal"))
        maximum = raw.get("maxInteger", raw.get("maxReal"))
        table = raw.get("refTable", "")
        strong = bool(table) and raw.get("refType", "strong") == "strong"
        return cls(raw["type"], table, strong, enum, minimum, maximum, raw.get("maxLength"))


_ANY_TEXT = Base("string")


@define(eq=False)
class Column:
    """A column: the type of its elements, how many there may be, and whether it can change."""

    table: str
    name: str
    key: Base
    value: Base | None
    min: int
    max: int
    mutable: bool
    shape: Shape = field(init=False)
    reference: Base | None = field(init=False)
    """The part that refers to rows (of a map, its value), or None."""
    any_text: bool = field(init=False)
    """Whether it takes any text: a scalar any string, a set or map any number of them."""

    def __attrs_post_init__(self) -> None:
        if self.value is not None:
            self.shape = Shape.MAP
        else:
            self.shape = Shape.SCALAR if self.max == 1 else Shape.SET
        refers = self.value is not None and self.value.ref_table
        self.reference = self.value if refers else self.key if self.key.ref_table else None
        bases = [self.key] if self.value is None else [self.key, self.value]
        counted = self.shape is not Shape.SCALAR and (self.min > 0 or self.max < UNLIMITED)
        self.any_text = not counted and all(base == _ANY_TEXT for base in bases)

    @classmethod
    def parse(cls, table: str, name: str, raw: Mapping[str, Any]) -> Column:
        """From the JSON of a `<column-schema>`."""
        kind = raw["type"]
        mutable = bool(raw.get("mutable", True))
        if isinstance(kind, str):
            return cls(table, name, Base(kind), None, 1, 1, mutable)
        value = Base.parse(kind["value"]) if "value" in kind else None
        most = kind.get("max", 1)
        most = UNLIMITED if most == "unlimited" else int(most)
        return cls(table, name, Base.parse(kind["key"]), value, int(kind.get("min", 1)), most, mutable)

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"


@define(eq=False)
class TableSchema:
    """A table: its columns, the sets of columns that must be unique, and whether its rows live unreferenced."""

    name: str
    columns: dict[str, Column]
    indexes: tuple[tuple[str, ...], ...]
    root: bool
    single: bool
    keys: tuple[tuple[str, ...], ...] = field(init=False)
    """The indexes, and the name that rows of a root table go by whether or not the schema calls it unique."""

    def __attrs_post_init__(self) -> None:
        name = self.columns.get("name")
        named = name is not None and name.shape is Shape.SCALAR and name.min == 1 and name.key.type == "string"
        extra = (("name",),) if named and self.root and not self.single and ("name",) not in self.indexes else ()
        self.keys = self.indexes + extra


@define(eq=False, slots=False)
class Schema:
    """All tables of a database. A new object is made only when the server's schema has changed."""

    name: str
    version: str
    tables: dict[str, TableSchema]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Schema:
        """From the result of `get_schema`."""
        # A schema in which no table is a root has only roots (RFC 7047, section 3.2).
        all_roots = not any(table.get("isRoot") for table in raw["tables"].values())
        tables = {}
        for name, table in raw["tables"].items():
            columns = {key: Column.parse(name, key, value) for key, value in table["columns"].items()}
            tables[name] = TableSchema(
                name,
                columns,
                tuple(tuple(index) for index in table.get("indexes", ())),
                all_roots or bool(table.get("isRoot")),
                table.get("maxRows") == 1,
            )
        return cls(raw["name"], raw.get("version", ""), tables)

    def column(self, table: str, name: str) -> Column | None:
        """A column, or None when this server doesn't have it."""
        entry = self.tables.get(table)
        return entry.columns.get(name) if entry is not None else None

    def has(self, table: str, name: str) -> bool:
        """Whether there is such a column."""
        return self.column(table, name) is not None

    @cached_property
    def singleton(self) -> str:
        """The table with the one row that stands for the database (NB_Global, SB_Global, Open_vSwitch), or ''."""
        for name, table in self.tables.items():
            if table.single and table.root and "external_ids" in table.columns:
                return name
        return ""

    @cached_property
    def strong_referrers(self) -> dict[str, list[Column]]:
        """For each table the columns that refer to its rows strongly."""
        found: dict[str, list[Column]] = {}
        for table in self.tables.values():
            for column in table.columns.values():
                reference = column.reference
                if reference is not None and reference.strong:
                    found.setdefault(reference.ref_table, []).append(column)
        return found

    def missing(self, needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
        """Of the needed tables and columns those that aren't there: `Table` or `Table.column`."""
        lacking = []
        for table, columns in sorted(needs.items()):
            if table not in self.tables:
                lacking.append(table)
            else:
                lacking += [f"{table}.{name}" for name in sorted(columns) if not self.has(table, name)]
        return tuple(lacking)
