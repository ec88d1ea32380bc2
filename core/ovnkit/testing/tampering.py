"""What other people and accidents do to a database."""

from __future__ import annotations

import random
import uuid
from typing import Any

from ovnkit.api.identity import OWNER_KEY
from ovnkit.sinks.ovsdb.wire.locations import NAMES
from ovnkit.testing.ovsdb import OvsdbServer

FOREIGN_KEY = "somebody-else"
_FOREIGN = (
    ("nb", "Logical_Switch", {"name": "foreign-switch"}),
    ("nb", "Address_Set", {"name": "foreign_set"}),
    ("nb", "Port_Group", {"name": "foreign_group"}),
    ("nb", "Load_Balancer", {"name": "foreign-balancer"}),
)
_DAMAGES = 8


def foreign_rows(server: OvsdbServer) -> None:
    """Rows that aren't ovnkit's, in the tables it uses most."""
    mark = ["map", [[FOREIGN_KEY, "yes"]]]
    for db, table, row in _FOREIGN:
        chosen = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{db}/{table}"))
        insert = {"op": "insert", "table": table, "uuid": chosen, "row": {**row, "external_ids": mark}}
        server.transact(NAMES[db], [insert])


def tamper(server: OvsdbServer, rng: random.Random) -> list[str]:
    """Delete, alter and duplicate rows of ovnkit's in the northbound at random; says what was done."""
    schema = server.call("get_schema", [NAMES["nb"]])
    done: list[str] = []
    for _ in range(_DAMAGES):
        rows = _owned(server, schema)
        if not rows:
            break
        table, row = rng.choice(rows)
        damage = rng.choice((_delete, _alter, _unmark, _duplicate))
        try:
            done.append(
                f"{damage.__name__} {table} {row.get('name', '')}: {damage(server, schema, table, row, rng)}"
            )
        except RuntimeError:
            continue  # the server knows better: the row is referred to, or the value isn't allowed
    return done


def _owned(server: OvsdbServer, schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (table, row)
        for table, described in sorted(schema["tables"].items())
        if "external_ids" in described["columns"]
        for row in sorted(server.rows(table, NAMES["nb"]), key=lambda row: str(row["_uuid"]))
        if OWNER_KEY in dict(row["external_ids"][1])
    ]


def _where(row: dict[str, Any]) -> list[Any]:
    return [["_uuid", "==", ["uuid", row["_uuid"]]]]


def _delete(server: OvsdbServer, _schema: object, table: str, row: dict[str, Any], _rng: random.Random) -> str:
    server.transact(NAMES["nb"], [{"op": "delete", "table": table, "where": _where(row)}])
    return "deleted"


def _alter(server: OvsdbServer, schema: Any, table: str, row: dict[str, Any], rng: random.Random) -> str:
    """Empty a column that holds something."""
    columns = [
        name
        for name, described in sorted(schema["tables"][table]["columns"].items())
        if name != "external_ids" and _can_be_empty(described) and row.get(name) not in (["set", []], ["map", []])
    ]
    if not columns:
        raise RuntimeError("nothing to alter")
    column = rng.choice(columns)
    empty = ["map", []] if isinstance(row[column], list) and row[column][0] == "map" else ["set", []]
    server.transact(NAMES["nb"], [{"op": "update", "table": table, "where": _where(row), "row": {column: empty}}])
    return f"emptied {column}"


def _can_be_empty(described: dict[str, Any]) -> bool:
    kind = described["type"]
    return isinstance(kind, dict) and kind.get("min", 1) == 0 and not described.get("ephemeral")


def _unmark(server: OvsdbServer, _schema: object, table: str, row: dict[str, Any], _rng: random.Random) -> str:
    mutation = ["external_ids", "delete", ["set", [OWNER_KEY]]]
    server.transact(NAMES["nb"], [{"op": "mutate", "table": table, "where": _where(row), "mutations": [mutation]}])
    return "mark removed"


def _duplicate(server: OvsdbServer, schema: Any, table: str, row: dict[str, Any], _rng: random.Random) -> str:
    """The same row again under another UUID; child tables refuse by collecting it at once."""
    columns = schema["tables"][table]["columns"]
    copied = {
        name: value
        for name, value in row.items()
        if not name.startswith("_") and "uuid" not in repr(columns[name]["type"])
    }
    server.transact(NAMES["nb"], [{"op": "insert", "table": table, "row": copied}])
    return "duplicated"
