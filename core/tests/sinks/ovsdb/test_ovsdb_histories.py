"""Random histories against a real ovsdb-server: wants, outside tampering, crashes. The end is always the same.

The invariants of the design: from any state of the database, in any order of events, the content converges to
that of a clean run; rows of others stay untouched; a restart with nothing changed writes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ovnkit.api.identity import OWNER_KEY, RowId
from ovnkit.api.items import Lookup, Member, Ref, Row, Slot
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import address_set as address_set_name
from ovnkit.api.matches import joined
from ovnkit.api.matches import port_group as port_group_name
from ovnkit.api.models import PODS
from ovnkit.testing.namewatch import NameWatch
from ovnkit.testing.ovsdb import OvsdbServer

DB = "OVN_Northbound"
FOREIGN = "f0000000-0000-4000-8000-00000000000{}"
TABLES = (
    "Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Address_Set", "Port_Group", "ACL", "Meter",
    "Meter_Band", "Load_Balancer", "Load_Balancer_Group", "Static_MAC_Binding", "HA_Chassis_Group",
    "HA_Chassis", "DHCP_Options", "NB_Global",
)  # fmt: skip


def rid(owner: str, name: str) -> RowId:
    return RowId("test", "things", owner, name)


def switch(variant: int) -> list[Any]:
    config = {"subnet": "10.0.0.0/24", **({"exclude": str(variant)} if variant else {})}
    return [Row("Logical_Switch", "switch", {"name": "n1", "other_config": config})]


def second_switch(variant: int) -> list[Any]:
    return [Row("Logical_Switch", "switch", {"name": f"n2-{variant}"})]


def port(number: int, variant: int) -> list[Any]:
    home = rid("sw" if variant < 2 else "sw2", "switch")
    columns: dict[str, Any] = {
        "name": f"p{number}",
        "addresses": tuple(f"0a:58:0a:00:00:0{n}" for n in range(variant + 1)),
        "external_ids": {"pod": "true", "variant": str(variant)},
        "dhcpv4_options": Ref.to(rid("dhcp", "options")) if variant == 1 else None,
        "ha_chassis_group": Ref.to(rid("ha", "group")) if variant == 2 else None,
    }
    group = Slot("Port_Group", rid("pg", "group"), "ports")
    lsp = Row("Logical_Switch_Port", "lsp", columns, Slot("Logical_Switch", home, "ports"))
    return [lsp, Member(group, Ref.to(rid(f"p{number}", "lsp")))]


def dhcp(variant: int) -> list[Any]:
    return [Row("DHCP_Options", "options", {"cidr": "10.0.0.0/24", "options": {"mtu": 1400 + variant}})]


def chassis(variant: int) -> list[Any]:
    slot = Slot("HA_Chassis_Group", rid("ha", "group"), "ha_chassis")
    members = [
        Row("HA_Chassis", f"c{n}", {"chassis_name": f"c{n}", "priority": n + variant}, slot)
        for n in range(variant + 1)
    ]
    return [*members, Row("HA_Chassis_Group", "group", {"name": "ha"})]


def port_group(variant: int) -> list[Any]:
    acl = Row(
        "ACL", "deny",
        {"priority": 1000 + variant, "direction": "to-lport",
         "match": "outport == " + port_group_name("group", rid("pg", "group")) + f" && tcp.dst == {variant}",
         "action": "drop", "meter": "acl-logging" if variant else None},
        Slot("Port_Group", rid("pg", "group"), "acls"),
    )  # fmt: skip
    return [Row("Port_Group", "group", {"name": "group"}), acl][: 2 if variant < 2 else 1]


def address_set(variant: int) -> list[Any]:
    live = LiveSet(PODS, project=tuple, namespaces="ns")
    fixed = tuple(f"10.0.0.{n}" for n in range(3 + variant))
    return [Row("Address_Set", "set", {"name": "a1", "addresses": live if variant == 1 else fixed})]


def renamed_set(variant: int) -> list[Any]:
    return [Row("Address_Set", "set", {"name": "a1x" if variant == 0 else "a2", "addresses": ("10.1.0.1",)})]


def named_set(number: int, variant: int) -> list[Any]:
    return [Row("Address_Set", "set", {"name": f"named{number}", "addresses": (f"10.3.{number}.{variant}",)})]


def naming(variant: int) -> list[Any]:
    """Two ACLs that name sets of other owners, others in each variant."""
    group = rid("naming", "group")
    numbers = ((0, 1), (1, 2), (2, 0))[variant]
    names = [address_set_name(f"named{number}", rid(f"set{number}", "set")) for number in numbers]
    own = "outport == " + port_group_name("naming", group)
    matches = ["ip4.src == " + names[0], "ip4.dst == {" + joined(", ", names) + "} && " + own]
    return [
        Row("Port_Group", "group", {"name": "naming"}),
        *(
            Row("ACL", f"acl{n}", {"priority": 1, "direction": "to-lport", "match": match, "action": "drop"},
                Slot("Port_Group", group, "acls"))
            for n, match in enumerate(matches)
        ),
    ]  # fmt: skip


def meter(variant: int) -> list[Any]:
    band = Row("Meter_Band", f"band{variant % 2}", {"action": "drop", "rate": 10 + variant})
    bands = (Ref.to(rid("meter", f"band{variant % 2}")),)
    return [Row("Meter", "meter", {"name": "acl-logging", "unit": "pktps", "bands": bands}), band]


def balancer(variant: int) -> list[Any]:
    slot = Slot("Load_Balancer_Group", rid("lbg", "group"), "load_balancer")
    row = Row("Load_Balancer", "lb", {"name": "lb", "vips": {"10.9.0.1:80": f"10.0.0.{variant}:8080"}})
    return [row, Member(slot, Ref.to(rid("lb", "lb")))]


def balancer_group(variant: int) -> list[Any]:
    group = Row("Load_Balancer_Group", "group", {"name": f"group{variant // 2}"})
    refs = (Ref.to(rid("lbg", "group")),) if variant else ()
    return [group, Row("Logical_Router", "router", {"name": "cluster", "load_balancer_group": refs})]


def router_option(variant: int) -> list[Any]:
    options = Slot("Logical_Router", rid("lbg", "router"), "options")
    return [Member(options, str(variant), key="always_learn"), Member(options, "1", key=f"k{variant}")]


def bindings(variant: int) -> list[Any]:
    return [
        Row(
            "Static_MAC_Binding", f"b{n}", {"logical_port": "lrp", "ip": f"10.0.0.{n}", "mac": "0a:58:00:00:00:01"}
        )
        for n in range(variant + 1)
    ]


def foreign_members(variant: int) -> list[Any]:
    theirs = Lookup("Logical_Switch", "name", "theirs")
    lsp = Row("Logical_Switch_Port", "lsp", {"name": "guest"}, Slot("Logical_Switch", theirs, "ports"))
    return [
        Member(Slot("Logical_Switch", theirs, "other_config"), str(variant), key="theirs" if variant else "ours"),
        Member(Slot("NB_Global", Lookup("NB_Global"), "name"), f"zone{variant}"),
        Member(Slot("NB_Global", Lookup("NB_Global"), "options"), "1", key=f"option{variant}"),
        *([lsp] if variant < 2 else []),
    ]


def more_foreign(variant: int) -> list[Any]:
    return [Member(Slot("NB_Global", Lookup("NB_Global"), "options"), "1", key="option1")]


OWNERS = {
    "sw": switch, "sw2": second_switch, "dhcp": dhcp, "ha": chassis, "pg": port_group, "as": address_set,
    "as2": renamed_set, "meter": meter, "lb": balancer, "lbg": balancer_group, "ro": router_option,
    "smb": bindings, "fm": foreign_members, "fm2": more_foreign, "naming": naming,
    **{f"set{n}": (lambda variant, n=n: named_set(n, variant)) for n in range(3)},  # type: ignore[misc]
    **{f"p{n}": (lambda variant, n=n: port(n, variant)) for n in range(3)},  # type: ignore[misc]
}  # fmt: skip

wants = st.tuples(st.just("want"), st.sampled_from(sorted(OWNERS)), st.sampled_from([0, 1, 2, None]))
tampering = st.tuples(
    st.sampled_from(["delete", "alter", "copy", "strip", "squat"]), st.integers(0, 2**16), st.integers(0, 2**16)
)
steps = st.one_of(
    wants, wants, wants, tampering,
    st.tuples(st.sampled_from(["flush", "quiet", "crash", "live"]), st.integers(0, 7), st.integers(0, 7)),
)  # fmt: skip


def base() -> list[dict[str, Any]]:
    port = {
        "op": "insert",
        "table": "Logical_Switch_Port",
        "uuid": FOREIGN.format(1),
        "row": {"name": "their-port"},
    }
    theirs = {
        "name": "theirs",
        "ports": ["uuid", FOREIGN.format(1)],
        "other_config": ["map", [["theirs", "before"]]],
        "external_ids": ["map", [["note", "hands off"]]],
    }
    return [
        {"op": "insert", "table": "NB_Global", "uuid": FOREIGN.format(0), "row": {"name": "unnamed"}},
        port,
        {"op": "insert", "table": "Logical_Switch", "uuid": FOREIGN.format(2), "row": theirs},
        {"op": "insert", "table": "Address_Set", "uuid": FOREIGN.format(3), "row": {"name": "theirs"}},
    ]


def wipe(server: OvsdbServer) -> None:
    server.transact(DB, [{"op": "delete", "table": table, "where": []} for table in TABLES])
    server.transact(DB, base())


def canonical(value: Any) -> Any:
    if isinstance(value, list) and value[0] == "set":
        return sorted(map(str, value[1]))
    if isinstance(value, list) and value[0] == "map":
        return sorted(map(str, value[1]))
    return [str(value)]


def dump(server: OvsdbServer) -> dict[str, dict[str, Any]]:
    found = {}
    for table in TABLES:
        for row in server.rows(table, DB):
            content = {k: canonical(v) for k, v in row.items() if k not in ("_uuid", "_version")}
            found[row["_uuid"]] = {"": table, **content}
    for content in found.values():
        # ovsdb-server 3.1 forgets weak references to rows that are collected when the transaction changes the
        # referring row as well: they stay and point at nothing
        if "ports" in content:
            content["ports"] = [port for port in content["ports"] if port[len("['uuid', '") : -len("']")] in found]
    return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: Any) -> Iterator[tuple[OvsdbServer, OvsdbServer]]:
    folder = tmp_path_factory.mktemp("s")
    with OvsdbServer(folder / "a") as one, OvsdbServer(folder / "b") as two:
        yield one, two


class Run:
    """One history on one server."""

    def __init__(self, server: OvsdbServer, rigs: Any) -> None:
        self.server, self.rigs = server, rigs
        self.wanted: dict[str, int] = {}
        self.live: set[str] = {"10.2.0.1"}
        self.squatters: dict[str, str] = {}
        self.watches: list[NameWatch] = []
        self.rig = self.boot()

    def boot(self, *, settle: bool = True, order: int = 0) -> Any:
        rig = self.rigs(self.server.endpoint, settle=False, batch_rows=5)
        self.watches.append(NameWatch(rig.sink))
        rig.live(LiveSet(PODS, project=tuple, namespaces="ns")).change(self.live)
        owners = sorted(self.wanted)
        random.Random(order).shuffle(owners)
        for number, owner in enumerate(owners):
            rig.want(owner, *OWNERS[owner](self.wanted[owner]))
            if number == order % 7:
                rig.quiet()
        if settle:
            rig.sink.settle()
        return rig

    def want(self, owner: str, variant: int | None) -> None:
        if variant is None:
            self.wanted.pop(owner, None)
        else:
            self.wanted[owner] = variant
        self.rig.want(owner, *(OWNERS[owner](variant) if variant is not None else ()))

    def step(self, what: str, a: Any, b: Any) -> None:
        if what == "want":
            self.want(a, b)
        elif what == "flush":
            self.rig.sink.flush()
        elif what == "quiet":
            self.rig.quiet()
        elif what == "crash":
            self.rig.loop.drop()
            self.rig.stop()
            self.rig = self.boot(order=a * 8 + b)
        elif what == "live":
            address = {f"10.2.0.{a}"}
            added, removed = (address - self.live, set()) if b % 2 else (set(), address & self.live)
            self.live = (self.live | added) - removed
            self.rig.live(LiveSet(PODS, project=tuple, namespaces="ns")).change(added, removed)
        else:
            self.tamper(what, random.Random(a * 65536 + b))

    def tamper(self, what: str, rng: random.Random) -> None:
        if what == "squat":
            name = rng.choice(["a1", "a2", "a1x"])
            table = "Address_Set"
            try:
                result = self.server.transact(DB, [{"op": "insert", "table": table, "row": {"name": name}}])
                self.squatters[result[0]["uuid"][1]] = name
            except RuntimeError:
                pass
            return
        ours = [(t, r) for t in TABLES for r in self.server.rows(t, DB)
                if OWNER_KEY in dict(r.get("external_ids", ["map", []])[1])]  # fmt: skip
        if not ours:
            return
        table, row = rng.choice(sorted(ours, key=lambda entry: entry[1]["_uuid"]))
        where = [["_uuid", "==", ["uuid", row["_uuid"]]]]
        reference = ["uuid", row["_uuid"]]
        operations: list[Any] = []
        if what == "delete":
            for column, holder in (
                ("ports", "Logical_Switch"),
                ("acls", "Port_Group"),
                ("ha_chassis", "HA_Chassis_Group"),
            ):
                mutation = [[column, "delete", ["set", [reference]]]]
                operations.append({"op": "mutate", "table": holder, "where": [], "mutations": mutation})
            operations.append({"op": "delete", "table": table, "where": where})
        elif what == "alter":
            change = {"Logical_Switch_Port": {"addresses": ["set", []], "dhcpv4_options": ["set", []],
                                              "name": "other"},
                      "Address_Set": {"addresses": ["set", ["1.1.1.1"]]},
                      "Logical_Switch": {"other_config": ["map", [["x", "y"]]], "name": "z"},
                      "ACL": {"priority": 7}, "Logical_Router": {"load_balancer_group": ["set", []], "name": "q"},
                      "Load_Balancer": {"vips": ["map", []]}, "Port_Group": {"ports": ["set", []]},
                      "Meter": {"unit": "kbps"}, "Meter_Band": {"rate": 1}}.get(table, {})  # fmt: skip
            if table == "Logical_Switch" and row["_uuid"] != rid("sw", "switch").uuid:
                change = {"name": "z"}  # nobody names its other_config, so a change there is left alone
            operations.append({"op": "update", "table": table, "where": where, "row": change})
        elif what == "copy":
            mark = {"external_ids": row["external_ids"]}
            named = {"Address_Set", "Logical_Switch", "Port_Group", "Logical_Router"}
            extra = {"name": "copy"} if table in named else {"DHCP_Options": {"cidr": "1.1.1.0/24"}}.get(table)
            if extra is None:
                return
            operations.append({"op": "insert", "table": table, "row": {**mark, **extra}})
        elif row["_uuid"] in self.rig.sink._state.desired.rows:
            ids = [["external_ids", "delete", ["set", [OWNER_KEY]]]]
            operations.append({"op": "mutate", "table": table, "where": where, "mutations": ids})
            self.rig.quiet()
        try:
            self.server.transact(DB, operations)
        except RuntimeError:
            return
        if what == "strip":
            self.rig.loop.until(lambda: self.rig.sink.ready)
            uuid = row["_uuid"]

            def mended() -> bool:
                return all(
                    OWNER_KEY in dict(r["external_ids"][1])
                    for r in self.server.rows(table, DB)
                    if r["_uuid"] == uuid
                )

            self.rig.loop.until(mended)

    def complete(self) -> None:
        """Want what the wanted rows refer to: a row that exists outlives it, a new one waits for it."""
        for number in range(3 if "naming" in self.wanted else 0):
            self.wanted.setdefault(f"set{number}", 0)
            self.want(f"set{number}", self.wanted[f"set{number}"])
        for variant, owner in ((1, "dhcp"), (2, "ha")):
            if any(self.wanted.get(f"p{n}") == variant for n in range(3)) and owner not in self.wanted:
                self.want(owner, 0)

    def end(self) -> dict[str, dict[str, Any]]:
        self.rig.sink.flush()
        self.rig.quiet()
        for _ in range(6):
            self.rig.loop.advance()
            self.rig.quiet()
        assert not [fault for watch in self.watches for fault in watch.all_faults()]
        return dump(self.server)


COLLECTED = [
    *[("want", "as", 0)] * 9, ("quiet", 0, 0), ("want", "as", 1), ("want", "fm", 1), ("want", "sw", None),
    ("delete", 653, 1894), ("crash", 0, 7),
]  # fmt: skip
"""Ports are collected with their switch by the transaction that adds one of them to a port group."""
DROPPED = [("quiet", 0, 0), ("alter", 130, 935), ("want", "dhcp", None), ("quiet", 0, 0)]
"""A reference that somebody took away is written by the transaction that deletes what it refers to."""
SQUATTED = [("quiet", 0, 0), ("want", "as2", 0), ("squat", 0, 17)]
"""Somebody takes a name just before a row is renamed to it: the refused renaming isn't forgotten."""


@example(first=dict.fromkeys(OWNERS, 0), history=COLLECTED)
@example(first={**dict.fromkeys(OWNERS, 0), "as2": 1}, history=SQUATTED)
@example(first={**dict.fromkeys(OWNERS, 0), "ha": 2, "p0": 1}, history=DROPPED)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.fixed_dictionaries({owner: st.sampled_from([0, 1, 2, None]) for owner in OWNERS}),
    history=st.lists(steps, min_size=15, max_size=50),
)
def test_any_history_ends_as_a_clean_run(
    servers: Any, rigs: Any, first: dict[str, int | None], history: list[tuple[str, Any, Any]]
) -> None:
    dirty, clean = servers
    wipe(dirty)
    run = Run(dirty, rigs)
    for owner, variant in first.items():
        run.want(owner, variant)
    for step in history:
        run.step(*step)
    run.complete()
    ended = run.end()
    run.rig.stop()

    wipe(clean)
    reference = Run(clean, rigs)
    reference.live = run.live
    reference.rig.live(LiveSet(PODS, project=tuple, namespaces="ns")).change(run.live, {"10.2.0.1"} - run.live)
    for owner in sorted(run.wanted):
        reference.want(owner, run.wanted[owner])
    expected = reference.end()
    reference.rig.stop()

    names = {name for row in expected.values() if row[""] == "Address_Set" for name in row["name"]}
    squatters = {uuid for uuid, name in run.squatters.items() if name not in names}
    kept = {uuid: row for uuid, row in ended.items() if uuid not in squatters}
    assert kept == expected

    again = Run.__new__(Run)
    again.__dict__.update(run.__dict__)
    again.rig = again.boot(order=3)
    again.rig.quiet()
    assert again.rig.sink.transactions == again.rig.sink.failed_transactions == 0
    again.rig.stop()
    assert dump(dirty) == ended
