"""The nft sink against real nftables in a network namespace."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.nft import (
    AddressType,
    ChainType,
    Counter,
    DnatMap,
    Hook,
    Jump,
    LinkName,
    Match,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    NftType,
    Protocol,
    RedirectMap,
    Selector,
    SetMark,
    SetName,
    Snat,
    Verdict,
)
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.nftsink import NftSink

PORT, SERVICES = Owner("management_port", "node", ""), Owner("services", "node", "shop/web")
TABLE = ("inet", "ovn-kubernetes")
CHAIN = NftChain("mgmtport-snat", ChainType.NAT, Hook.POSTROUTING, 100)
PORT_ITEMS = (
    CHAIN,
    NftSet("no-snat-nodeports", (NftType.PROTOCOL, NftType.PORT)),
    NftSet("no-snat-subnets-v4", (NftType.IPV4,), interval=True),
    NftRule(
        "mgmtport-snat", 0, (Match((Selector.OUT_LINK,), LinkName("ovn-k8s-mp0"), negate=True), Verdict.RETURN)
    ),
    NftRule(
        "mgmtport-snat",
        1,
        (Match((Selector.PROTOCOL, Selector.DESTINATION_PORT), SetName("no-snat-nodeports")), Verdict.RETURN),
    ),
    NftRule("mgmtport-snat", 2, (Match((Selector.IPV4_SOURCE,), SetName("no-snat-subnets-v4")), Verdict.RETURN)),
    NftRule("mgmtport-snat", 9, (Counter(), Snat(ip_address("10.128.1.2")))),
    NftRule("mgmtport-snat", 9, (Snat(ip_address("fd00::2")),)),
    NftChain("services", None),
    NftChain("services-prerouting", ChainType.NAT, Hook.PREROUTING, -100),
    NftSet("nodeports-v4", (NftType.PROTOCOL, NftType.PORT), (NftType.IPV4, NftType.PORT)),
    NftSet("itp", (NftType.PROTOCOL, NftType.PORT), (NftType.PORT,)),
    NftRule("services-prerouting", 0, (Jump("services"),)),
    NftRule(
        "services",
        0,
        (
            Match((Selector.DESTINATION_TYPE,), AddressType.LOCAL),
            DnatMap(4, (Selector.PROTOCOL, Selector.DESTINATION_PORT), "nodeports-v4"),
        ),
    ),
    NftRule(
        "services",
        1,
        (
            Match((Selector.PROTOCOL,), Protocol.TCP),
            RedirectMap((Selector.PROTOCOL, Selector.DESTINATION_PORT), "itp"),
        ),
    ),
    NftRule("services", 2, (Match((Selector.PROTOCOL,), Protocol.UDP), SetMark(0x1745EC))),
)


def element(port: int, to: str = "172.16.1.10", protocol: Protocol = Protocol.TCP) -> NftElement:
    return NftElement("nodeports-v4", (protocol, port), (ip_address(to), 80))


def nft(*arguments: str) -> str:
    return subprocess.run(("nft", "-n", *arguments), check=True, capture_output=True, text=True).stdout


def table() -> str:
    done = subprocess.run(("nft", "-n", "list", "table", *TABLE), check=False, capture_output=True, text=True)
    return done.stdout


def rules(chain: str) -> list[str]:
    lines = nft("list", "chain", *TABLE, chain).splitlines()
    return [line.split(" comment ")[0].strip() for line in lines if " comment " in line]


@pytest.fixture
def sink(netns: None, inbox: Any) -> Iterator[NftSink]:
    sink = start(inbox)
    yield sink
    sink.stop()


def start(inbox: Any) -> NftSink:
    reports: list[tuple[Owner, Exception | None]] = []
    sink = NftSink(inbox.post, lambda owner, error: reports.append((owner, error)))
    sink.reports = reports  # type: ignore[attr-defined]
    sink.start()
    inbox.until(lambda: sink.ready, "ready")
    return sink


def apply(sink: NftSink, inbox: Any, owner: Owner, *items: Any) -> None:
    sink.want(owner, items)
    sink.flush()
    inbox.until(lambda: sink.idle, "applied")


EXPECTED = [
    'oifname != "ovn-k8s-mp0" return',
    "meta l4proto . th dport @no-snat-nodeports return",
    "ip saddr @no-snat-subnets-v4 return",
    "counter packets 0 bytes 0 snat ip to 10.128.1.2",
    "snat ip6 to fd00::2",
]


def test_nothing_happens_before_everything_is_rendered(sink: NftSink, inbox: Any) -> None:
    sink.want(PORT, PORT_ITEMS)
    sink.flush()
    inbox.quiet(0.3)
    assert table() == ""
    sink.settle()
    sink.flush()
    inbox.until(lambda: sink.idle and table(), "applied")
    assert rules("mgmtport-snat") == EXPECTED
    assert "type nat hook postrouting priority 100" in table()
    assert rules("services-prerouting") == ["jump services"]
    assert len(rules("services")) == 3
    assert "type inet_proto . inet_service : ipv4_addr . inet_service" in table()


def test_one_service_is_one_element(sink: NftSink, inbox: Any) -> None:
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    many = [element(20000 + number) for number in range(3000)]
    apply(sink, inbox, SERVICES, *many)
    inbox.until(lambda: table().count(" : 172.16.1.10 . 80") == 3000, "3000 elements")
    with subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, text=True) as monitor:
        await_monitor()
        apply(sink, inbox, SERVICES, *many[1:], element(19999))
        inbox.quiet(0.3)
        monitor.terminate()
        told = [line for line in (monitor.stdout.read() if monitor.stdout else "").splitlines() if "#" not in line]
    told = [line for line in told if " probe" not in line]
    assert len(told) == 2, told
    assert told[0].startswith("delete element inet ovn-kubernetes nodeports-v4 { tcp . 20000")
    assert told[1].startswith("add element inet ovn-kubernetes nodeports-v4 { tcp . 19999")
    apply(sink, inbox, SERVICES, element(19999, "172.16.1.99"))
    inbox.until(lambda: "19999 : 172.16.1.99 . 80" in table(), "a changed value")
    assert table().count(". 80") == 1


def await_monitor() -> None:
    """Until a monitor that was just started surely listens: it takes a netlink socket per monitor."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()
        # Protocol 12 is netfilter; groups are in the fourth column.
        if sum(line.split()[1] == "12" and int(line.split()[3], 16) != 0 for line in lines) >= 2:
            return
        time.sleep(0.02)
    pytest.fail("no second nft monitor")


@pytest.mark.parametrize(
    "command",
    [
        "delete table inet ovn-kubernetes",
        "flush chain inet ovn-kubernetes mgmtport-snat",
        "insert rule inet ovn-kubernetes mgmtport-snat accept",
        "add rule inet ovn-kubernetes services drop",
        "flush map inet ovn-kubernetes nodeports-v4",
        "add element inet ovn-kubernetes nodeports-v4 { tcp . 1 : 1.1.1.1 . 1 }",
        "add chain inet ovn-kubernetes foreign",
        "add set inet ovn-kubernetes foreign { type ipv4_addr; }",
        "add element inet ovn-kubernetes no-snat-subnets-v4 { 192.0.2.5-192.0.2.9 }",
    ],
)
def test_a_change_from_outside_is_put_right(sink: NftSink, inbox: Any, command: str) -> None:
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    apply(sink, inbox, SERVICES, element(30080))
    inbox.until(lambda: "30080 : 172.16.1.10 . 80" in table(), "applied")
    inbox.quiet(0.3)
    before = table()
    subprocess.run(["nft", command], check=True)
    assert table() != before
    inbox.until(lambda: same(table(), before), f"healed after {command!r}")


def same(one: str, other: str) -> bool:
    return sorted(one.splitlines()) == sorted(other.splitlines())


def test_a_rule_altered_in_place_is_noticed(sink: NftSink, inbox: Any) -> None:
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    inbox.quiet(0.3)
    line = next(line for line in nft("-a", "list", "table", *TABLE).splitlines() if "snat ip6" in line)
    comment, handle = line.split('"')[1], line.split()[-1]
    change = (
        f'replace rule inet ovn-kubernetes mgmtport-snat handle {handle} snat ip6 to fd00::bad comment "{comment}"'
    )
    subprocess.run(["nft", change], check=True)
    assert "fd00::bad" in table()
    inbox.until(lambda: rules("mgmtport-snat") == EXPECTED, "healed")


def test_a_restart_writes_nothing_and_the_last_one_leaves_no_table(sink: NftSink, inbox: Any) -> None:
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    apply(sink, inbox, SERVICES, element(30080))
    inbox.until(lambda: "30080" in table(), "applied")
    sink.stop()
    again = start(inbox)
    with subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, text=True) as monitor:
        await_monitor()
        again.want(PORT, PORT_ITEMS)
        again.want(SERVICES, (element(30080),))
        again.settle()
        again.flush()
        inbox.quiet(0.4)
        monitor.terminate()
        assert (monitor.stdout.read() if monitor.stdout else "") == ""
    apply(again, inbox, SERVICES)
    inbox.until(lambda: "30080" not in table(), "element gone")
    apply(again, inbox, PORT)
    inbox.until(lambda: table() == "", "table gone")
    again.stop()


def test_overlapping_networks_of_users_are_no_trouble(sink: NftSink, inbox: Any) -> None:
    def subnet(text: str) -> NftElement:
        return NftElement("no-snat-subnets-v4", (ip_network(text),))

    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    apply(sink, inbox, SERVICES, subnet("10.0.0.0/8"), subnet("10.1.0.0/16"), subnet("192.0.2.1/32"))
    inbox.until(lambda: "elements = { 10.0.0.0/8, 192.0.2.1 }" in table(), "collapsed")
    apply(sink, inbox, SERVICES, subnet("10.1.0.0/16"))
    inbox.until(lambda: "elements = { 10.1.0.0/16 }" in table(), "the narrower one is left")
    apply(sink, inbox, SERVICES, subnet("10.1.2.3/32"), subnet("10.1.0.0/16"), subnet("10.2.2.2/32"))
    inbox.until(lambda: "elements = { 10.1.0.0/16, 10.2.2.2 }" in table(), "one address, too")
    apply(sink, inbox, SERVICES, subnet("10.1.2.3/32"))
    inbox.until(lambda: "elements = { 10.1.2.3 }" in table(), "the address is left")
    assert not sink.status()["failed"]


def test_an_element_that_what_is_there_excludes_stops_nobody(
    sink: NftSink, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nft takes it alone, but not beside an element that stays."""
    monkeypatch.setattr("ovnkit.sinks.host.nfttext.collapse", frozenset)
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS, NftElement("no-snat-subnets-v4", (ip_network("10.0.0.0/8"),)))
    inbox.until(lambda: "10.0.0.0/8" in table(), "the wider one")
    apply(sink, inbox, BAD_OWNER, NftElement("no-snat-subnets-v4", (ip_network("10.1.0.0/16"),)), element(30001))
    inbox.until(lambda: "30001 : " in table(), "the rest")
    inbox.until(lambda: sink.status()["failed"], "refused")
    assert list(sink.status()["failed"]) == ["element no-snat-subnets-v4 10.1.0.0/16"]
    apply(sink, inbox, SERVICES, element(30002))
    inbox.until(lambda: "30002 : " in table(), "what comes next")


def test_what_nft_refuses_stops_nobody(sink: NftSink, inbox: Any) -> None:
    bad = Owner("gateway", "node", "")
    sink.settle()
    sink.want(bad, (NftChain("bad", ChainType.NAT, Hook.FORWARD, 0),))
    apply(sink, inbox, PORT, *PORT_ITEMS)
    inbox.until(lambda: rules("mgmtport-snat") == EXPECTED, "the others applied")
    inbox.until(lambda: sink.reports, "reported")  # type: ignore[attr-defined]
    ((owner, error),) = sink.reports  # type: ignore[attr-defined]
    assert owner == bad
    assert "chain bad" in str(error)
    apply(sink, inbox, bad, NftChain("bad", ChainType.NAT, Hook.OUTPUT, 0))
    inbox.until(lambda: "chain bad" in table(), "healed by the correction")


BAD_OWNER = Owner("services", "service-nft", "shop/bad")
TO_FRONT = (
    Match((Selector.IPV4_DESTINATION,), ip_address("192.0.2.9")),
    Match((Selector.PROTOCOL,), Protocol.TCP),
    Match((Selector.DESTINATION_PORT,), 80),
)
BAD_ITEMS: dict[str, tuple[Any, ...]] = {
    # Found by nft's parser, by the kernel at once, and by the kernel only when it commits.
    "element": (NftElement("nodeports-v6", (Protocol.TCP, 31000), (ip_address("192.0.2.1"), 80)),),
    "interval element": (NftElement("no-snat-subnets-v6", (ip_network("192.0.2.0/24"),)),),
    "set": (NftSet("map", (NftType.IPV4,)),),
    "chain": (NftChain("bad", ChainType.NAT, Hook.FORWARD, 0),),
    "rule": (NftRule("services", 5, (Snat(ip_address("10.9.9.9")),)),),
}
OTHERS = (
    NftSet("nodeports-v6", (NftType.PROTOCOL, NftType.PORT), (NftType.IPV6, NftType.PORT)),
    NftSet("no-snat-subnets-v6", (NftType.IPV6,), interval=True),
    NftElement("no-snat-subnets-v6", (ip_network("2001:db8::/64"),)),
    NftElement("nodeports-v6", (Protocol.TCP, 30000), (ip_address("2001:db8::1"), 80)),
    NftRule("services", 3, (Counter(),)),
    NftRule("services", 9, (SetMark(9),)),
)


@pytest.mark.parametrize("kind", BAD_ITEMS)
@pytest.mark.parametrize("at_start", [True, False])
def test_a_refused_item_disables_nothing_but_itself(sink: NftSink, inbox: Any, kind: str, at_start: bool) -> None:
    """Everything of others, also in the same chain and set, and the rest of its owner's is there."""
    own = (element(31007), NftRule("services", 6, (SetMark(6),)))
    sink.settle()
    if not at_start:
        apply(sink, inbox, PORT, *PORT_ITEMS, *OTHERS)
    sink.want(BAD_OWNER, (*own, *BAD_ITEMS[kind]))
    apply(sink, inbox, SERVICES, *(element(30000 + number) for number in range(40)))
    apply(sink, inbox, PORT, *PORT_ITEMS, *OTHERS)
    inbox.until(lambda: table().count(" : 172.16.1.10 . 80") == 41, "elements")
    assert rules("mgmtport-snat") == EXPECTED
    assert [rule for rule in rules("services") if "mark set" in rule and "17" not in rule] == [
        "meta mark set 0x00000006",
        "meta mark set 0x00000009",
    ]
    assert "elements = { 2001:db8::/64 }" in table()
    assert "30000 : 2001:db8::1 . 80" in table()
    ((owner, error),) = sink.reports  # type: ignore[attr-defined]
    assert owner == BAD_OWNER
    assert str(error).startswith(f"nftables refused {kind.split()[-1]} ")
    assert len(sink.status()["failed"]) == 1
    apply(sink, inbox, BAD_OWNER, *own)
    apply(sink, inbox, SERVICES, element(30001))
    inbox.until(lambda: table().count(" : 172.16.1.10 . 80") == 2, "what comes next")
    inbox.until(lambda: not sink.status()["failed"] or inbox.quiet(0.2), "nothing is refused any more", 5)


@pytest.mark.parametrize(
    "unusable",
    [
        (NftSet("map", (NftType.IPV4,), interval=True), NftElement("map", (ip_network("198.51.100.0/24"),))),
        (),
    ],
)
def test_what_a_refused_rule_was_to_close_is_closed(sink: NftSink, inbox: Any, unusable: tuple[Any, ...]) -> None:
    """The set of allowed sources can't be made, or is not there: nobody is allowed, and others are not touched."""
    outside = Match((Selector.IPV4_SOURCE,), SetName("map"), negate=True)
    guard = NftRule("services", 0, (*TO_FRONT, outside, Verdict.DROP), otherwise=(*TO_FRONT, Verdict.DROP))
    sink.settle()
    sink.want(BAD_OWNER, (guard, *unusable))
    apply(sink, inbox, PORT, *PORT_ITEMS)
    inbox.until(lambda: len(rules("services")) == 4, "all rules")
    assert "ip daddr 192.0.2.9 tcp dport 80 drop" in rules("services")
    assert rules("mgmtport-snat") == EXPECTED
    if not unusable:
        apply(sink, inbox, SERVICES, NftSet("map2", (NftType.IPV4,), interval=True))
        assert "ip daddr 192.0.2.9 tcp dport 80 drop" in rules("services")
    right = NftSet("allowed", (NftType.IPV4,), interval=True)
    inside = Match((Selector.IPV4_SOURCE,), SetName("allowed"), negate=True)
    apply(sink, inbox, BAD_OWNER, right, NftRule("services", 0, (*TO_FRONT, inside, Verdict.DROP)))
    inbox.until(lambda: any("!= @allowed drop" in rule for rule in rules("services")), "the rule itself")
    assert "ip daddr 192.0.2.9 tcp dport 80 drop" not in rules("services")


def test_a_refused_source_is_not_allowed(sink: NftSink, inbox: Any) -> None:
    allowed = NftSet("allowed", (NftType.IPV6,), interval=True)
    sources = [NftElement("allowed", (ip_network(text),)) for text in ("192.0.2.0/24", "2001:db8::/64")]
    outside = Match((Selector.IPV6_SOURCE,), SetName("allowed"), negate=True)
    guard = NftRule("services", 0, (outside, Verdict.DROP), otherwise=(Verdict.DROP,))
    sink.settle()
    sink.want(BAD_OWNER, (allowed, *sources, guard))
    apply(sink, inbox, PORT, *PORT_ITEMS)
    inbox.until(lambda: "elements = { 2001:db8::/64 }" in table(), "the good one")
    assert "ip6 saddr != @allowed drop" in rules("services")


def test_another_attempt_at_a_refused_rule_rewrites_nothing(sink: NftSink, inbox: Any) -> None:
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    apply(sink, inbox, BAD_OWNER, *BAD_ITEMS["rule"], NftRule("services", 6, (SetMark(6),)))
    inbox.until(lambda: "meta mark set 0x00000006" in rules("services"), "the other rule")
    before = nft("-a", "list", "chain", *TABLE, "services")
    inbox.quiet(2.5)
    assert nft("-a", "list", "chain", *TABLE, "services") == before
    assert len(sink.reports) == 1  # type: ignore[attr-defined]


def test_what_nft_refuses_for_a_while_is_tried_again(
    sink: NftSink, inbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nft itself, but that it fails on one element until told otherwise; nothing is written meanwhile."""
    refuse, wrapper = tmp_path / "refuse", tmp_path / "nft"
    real = shutil.which("nft")
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in "-f -") text=$(cat);; *) exec {real} "$@";; esac\n'
        f'case "$text" in *30077*) if [ -e {refuse} ]; then echo "Error: not now" >&2; exit 1; fi;; esac\n'
        f'echo "$text" | {real} -f -\n'
    )
    wrapper.chmod(0o755)
    refuse.touch()
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    apply(sink, inbox, BAD_OWNER, element(30077), element(30078))
    inbox.until(lambda: "30078 : " in table(), "the other one")
    assert "30077 : " not in table()
    assert list(sink.status()["failed"].values()) == ["not now"]
    refuse.unlink()
    inbox.until(lambda: "30077 : " in table(), "tried again")
    inbox.until(lambda: not sink.status()["failed"], "forgotten")


@pytest.mark.parametrize("seed", range(3))
def test_any_history_with_bad_items_ends_in_one_table(sink: NftSink, inbox: Any, seed: int) -> None:
    """Whatever was wanted before, refused, or done by others, the table is that of a sink that begins with it."""
    chance = random.Random(seed)
    allowed = (
        NftSet("allowed", (NftType.IPV4,), interval=True),
        NftElement("allowed", (ip_network("10.0.0.0/8"),)),
    )
    wanted: dict[Owner, tuple[Any, ...]] = {PORT: (*PORT_ITEMS, *OTHERS, *allowed)}
    outsiders = ["flush chain inet ovn-kubernetes services", "delete table inet ovn-kubernetes"]

    def anything() -> tuple[Any, ...]:
        name = chance.choice(["allowed", "map"])
        guard = Match((Selector.IPV4_SOURCE,), SetName(name), negate=True)
        choices: list[tuple[Any, ...]] = [
            (element(30000 + chance.randrange(20)),),
            (NftElement("no-snat-subnets-v6", (ip_network("2001:db8::/48"),)),),
            (NftRule("services", 0, (*TO_FRONT, guard, Verdict.DROP), otherwise=(*TO_FRONT, Verdict.DROP)),),
            (NftRule("services", chance.randrange(9), (SetMark(chance.randrange(1, 5)),)),),
            *BAD_ITEMS.values(),
        ]
        return tuple(dict.fromkeys(item for some in chance.choices(choices, k=4) for item in some))

    sink.want(PORT, wanted[PORT])
    sink.settle()
    for _ in range(10):
        owner = Owner("services", "service-nft", str(chance.randrange(4)))
        wanted[owner] = anything()
        sink.want(owner, wanted[owner])
        sink.flush()
        if chance.random() < 0.2:
            subprocess.run(["nft", chance.choice(outsiders)], check=False, capture_output=True)
        if chance.random() < 0.5:
            inbox.quiet(0.05)
    inbox.until(lambda: sink.idle, "applied")
    inbox.quiet(1.0)
    inbox.until(lambda: sink.idle, "applied")
    found = words()
    sink.stop()
    nft("delete", "table", *TABLE)
    again = start(inbox)
    for owner, items in wanted.items():
        again.want(owner, items)
    again.settle()
    again.flush()
    inbox.until(lambda: again.idle and words() == found, "the same table")
    again.stop()


def words() -> list[str]:
    """The table in an order of no meaning: that of elements is nft's."""
    return sorted(re.findall(r"[^\s,{}]+", table()))


def test_equal_rules_stand_as_their_owner_names_them(sink: NftSink, inbox: Any) -> None:
    marks = [NftRule("mgmtport-snat", 1, (SetMark(number),)) for number in range(1, 9)]
    sink.settle()
    apply(sink, inbox, PORT, CHAIN, *marks)
    inbox.until(
        lambda: [int(rule.split()[-1], 16) for rule in rules("mgmtport-snat")] == [*range(1, 9)], "in order"
    )
    apply(sink, inbox, PORT, CHAIN, *reversed(marks))
    inbox.until(lambda: int(rules("mgmtport-snat")[0].split()[-1], 16) == 8, "turned round")


def test_rules_and_elements_wait_for_their_set(sink: NftSink, inbox: Any) -> None:
    late = NftSet("late", (NftType.IPV4,))
    rule = NftRule("mgmtport-snat", 5, (Match((Selector.IPV4_SOURCE,), SetName("late")), Verdict.RETURN))
    sink.settle()
    apply(sink, inbox, PORT, *PORT_ITEMS)
    apply(sink, inbox, SERVICES, rule, NftElement("late", (ip_address("192.0.2.7"),)))
    inbox.until(lambda: rules("mgmtport-snat") == EXPECTED, "without it")
    apply(sink, inbox, Owner("other", "node", ""), late)
    inbox.until(lambda: rules("mgmtport-snat")[3] == "ip saddr @late return", "in its place")
    assert "192.0.2.7" in table()
    apply(sink, inbox, Owner("other", "node", ""))
    inbox.until(lambda: rules("mgmtport-snat") == EXPECTED and "set late" not in table(), "gone with its set")


@pytest.mark.parametrize("name", ["a b", 'x"; drop', "-x", "", "a;b", "{"])
def test_names_are_no_way_in(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        NftChain(name)
    with pytest.raises(ValueError, match="no interface name"):
        LinkName(name + " ")


def test_no_monitor_is_left_by_a_process_that_is_killed(netns: None) -> None:
    program = (
        "import time; from ovnkit.sinks.host.nftsink import NftSink\n"
        "sink = NftSink(lambda function: None, lambda owner, error: None); sink.start(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        until(lambda: monitors(process.pid), "a monitor")
        (monitor,) = monitors(process.pid)
        process.kill()
    until(lambda: not Path(f"/proc/{monitor}").exists(), "no monitor")


def monitors(parent: int) -> list[int]:
    """The `nft monitor` children of a process."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "nft":
                command = Path(f"/proc/{child}/cmdline").read_text()
                found += [int(child)] if "monitor" in command else []
    return found


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)
