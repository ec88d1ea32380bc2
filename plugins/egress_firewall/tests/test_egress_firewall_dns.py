"""The resolver: when it asks again, what it keeps, and what it makes of a real server's answers."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, Reject
from ovnkit.api.kinds import Changes, Kind, View
from ovnkit.api.metrics import MetricKind
from ovnkit.api.text import Address
from ovnkit_egress_firewall import lookup
from ovnkit_egress_firewall.dnsnames import DnsAnswer, DnsName
from ovnkit_egress_firewall.options import EgressFirewallOptions, Server
from ovnkit_egress_firewall.plugin import EgressFirewallPlugin
from ovnkit_egress_firewall.resolver import AT_ONCE, Resolver
from ovnkit_egress_firewall.schedule import Found, Knowledge, retry_after
from ovnkit_lab.testing import wait_until

A1, A2, A3 = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
V6 = ip_address("2001:db8::1")
SILENT = Found(answered=False, fault="no answer")
NOTHING = Found(ttl=0, fault="there is no such name")
V4_ONLY, V6_ONLY = frozenset({4}), frozenset({6})


def found(ttl: float, *addresses: Address) -> Found:
    return Found(dict.fromkeys(addresses, ttl), ttl)


# -- when to ask again, and what to keep --------------------------------------------------------------------


def test_it_asks_again_when_the_shortest_ttl_runs_out() -> None:
    known = Knowledge().learn({4: found(60, A1), 6: found(20, V6)}, 0.0)
    assert (known.wait, known.answer("x").addresses) == (20, (A1, V6))
    assert Knowledge().learn({4: found(0, A1)}, 0.0).wait == 5
    assert Knowledge().learn({4: found(86400, A1)}, 0.0).wait == 1800


def test_new_addresses_take_the_place_of_old_ones_when_those_have_run_out() -> None:
    known = Knowledge().learn({4: Found({A1: 60.0, A2: 10.0}, 10.0)}, 0.0)
    assert known.wait == 10
    known = known.learn({4: found(30, A3)}, 10.0)
    assert known.answer("x").addresses == (A1, A3), "one server still gives out A1"
    known = known.learn({4: found(300, A3)}, 40.0)
    assert known.wait == 20, "A1 runs out before"
    assert known.learn({4: found(300, A3)}, 60.0).answer("x").addresses == (A3,)


def test_silence_keeps_what_was_good_and_is_retried_soon() -> None:
    known = Knowledge().learn({4: found(10, A1)}, 0.0)
    for count in range(1, 30):
        known = known.learn({4: SILENT}, 10.0 * count)
        assert known.answer("x") == DnsAnswer("x", (A1,), V4_ONLY)
        assert known.wait == retry_after(count)
    assert known.learn({4: found(7, A2)}, 999.0).failures == 0
    assert [retry_after(count) for count in (1, 10, 11, 12, 14, 15, 99)] == [5, 5, 10, 20, 80, 120, 120]


def test_a_name_that_is_gone_loses_its_addresses_when_their_time_is_over() -> None:
    known = Knowledge().learn({4: found(10, A1), 6: found(60, V6)}, 0.0)
    known = known.learn({4: NOTHING, 6: NOTHING}, 8.0)
    assert (known.answer("x").addresses, known.wait) == ((A1, V6), 2), "pods may have looked it up a moment ago"
    known = known.learn({4: NOTHING, 6: NOTHING}, 10.0)
    assert known.answer("x") == DnsAnswer("x", (V6,))
    known = known.learn({4: NOTHING, 6: SILENT}, 60.0)
    assert known.answer("x") == DnsAnswer("x", (V6,)), "nobody says that there is no such IPv6 address"
    known = known.learn({4: NOTHING, 6: NOTHING}, 70.0)
    assert known.answer("x") == DnsAnswer("x", fault="there is no such name")


def test_that_there_is_nothing_is_believed_as_long_as_the_answer_says() -> None:
    def wait(ttl: float) -> float:
        return Knowledge().learn({4: Found(ttl=ttl, fault="there is no such name")}, 0.0).wait

    assert [wait(ttl) for ttl in (0, 3, 60, 86400)] == [5, 5, 60, 120]


def test_no_ttl_keeps_an_address_for_more_than_a_day() -> None:
    known = Knowledge().learn({4: found(2**31 - 1, A1)}, 0.0).learn({4: NOTHING}, 86399.0)
    assert known.answer("x").addresses == (A1,)
    assert known.learn({4: NOTHING}, 86400.0).answer("x").addresses == ()


def test_what_has_been_said_in_a_round_counts_at_once_and_takes_nothing_away() -> None:
    known = Knowledge().hear(4, found(10, A1), 0.0)
    assert known.answer("x") == DnsAnswer("x", (A1,), V4_ONLY)
    known = known.learn({4: found(10, A1), 6: SILENT}, 5.0)
    assert known.answer("x") == DnsAnswer("x", (A1,), V4_ONLY, "no answer")
    heard = known.hear(4, found(10, A2), 10.0)
    assert heard.answer("x") == DnsAnswer("x", (A1, A2), V4_ONLY, "no answer")
    assert heard.hear(6, NOTHING, 10.0) == heard


def test_one_family_may_fail_alone() -> None:
    known = Knowledge().learn({4: found(10, A1), 6: found(10, V6)}, 0.0)
    known = known.learn({4: found(600, A2), 6: SILENT}, 10.0)
    assert known.answer("x").addresses == (A2, V6)
    assert known.wait == 5
    known = known.learn({4: found(600, A2), 6: NOTHING}, 20.0)
    assert known.answer("x").addresses == (A2,), "a server says that there is no such address any more"


def test_a_name_is_known_once_somebody_could_say_something() -> None:
    nobody = Knowledge().learn({4: SILENT, 6: NOTHING}, 0.0)
    assert nobody.answer("x") == DnsAnswer("x", (), V6_ONLY, "no answer; there is no such name")
    none = nobody.learn({4: NOTHING, 6: NOTHING}, 5.0)
    assert none.answer("x") == DnsAnswer("x", fault="there is no such name")
    assert none.learn({4: SILENT, 6: SILENT}, 10.0).known == {4, 6}, "what is known stays known"


ROUND = st.fixed_dictionaries(
    {
        family: st.sampled_from([SILENT, NOTHING])
        | st.builds(
            lambda addresses, ttl: Found(dict.fromkeys(addresses, float(ttl)), float(ttl)),
            st.sets(st.sampled_from(addresses), min_size=1),
            st.integers(0, 100_000),
        )
        for family, addresses in ((4, (A1, A2, A3)), (6, (V6,)))
    }
)


@given(st.lists(ROUND, max_size=12))
def test_any_history_keeps_good_answers_and_a_sane_pace(rounds: list[dict[int, Found]]) -> None:
    known, now = Knowledge(), 0.0
    for said in rounds:
        before, known = known, known.learn(said, now)
        assert 1 <= known.wait <= 1800
        assert {a for answer in said.values() for a in answer.addresses} <= set(known.expiry)
        silent = {family for family, answer in said.items() if not answer.answered}
        kept = {address for address in before.expiry if address.version in silent}
        assert kept <= set(known.expiry), "what nobody denies stays"
        fresh = {address for answer in said.values() for address in answer.addresses}
        assert all(until > now for address, until in known.expiry.items() if address not in fresh | kept)
        assert bool(known.fault) is (not known.expiry or known.known != {4, 6})
        assert known.known >= before.known
        now += known.wait


# -- against a real server ----------------------------------------------------------------------------------


class Zone:
    """A DNS server, and a resolver that asks it."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "zone"
        self.write({})
        script = Path(__file__).with_name("egress_dns_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), address, "0", str(self.file)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])
        self.server = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.told: queue.SimpleQueue[DnsAnswer] = queue.SimpleQueue()
        self.resolvers: list[Resolver] = []

    def write(self, zone: dict[str, Any]) -> None:
        from egress_dns_server import write_zone

        write_zone(self.file, zone)

    def line(self) -> str:
        """The next line that the server prints."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline())

    def resolver(self, *families: int, **options: Any) -> Resolver:
        made = Resolver(
            EgressFirewallOptions(**{"dns_servers": (self.server,), **options}),
            families or (4, 6),
            self._tell,
        )
        self.resolvers.append(made)
        return made

    def _tell(self, _kind: Kind[View], changes: Changes) -> None:
        for _, view in changes:
            assert isinstance(view, DnsAnswer)
            self.told.put(view)

    def hears(self, condition: Callable[[DnsAnswer], bool] = lambda _answer: True) -> DnsAnswer:
        """The next answer that is so."""
        while True:
            answer = self.told.get(timeout=30)
            if condition(answer):
                return answer

    def close(self) -> None:
        for resolver in self.resolvers:
            resolver.stop()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    made = Zone(tmp_path)
    yield made
    made.close()


def test_it_follows_a_name_and_tells_only_what_changes(zone: Zone) -> None:
    zone.write({"www.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}})
    resolver = zone.resolver()
    resolver.ask(["www.example.com"])
    assert zone.hears() == DnsAnswer("www.example.com", (A1, V6))
    zone.write({"www.example.com": {"A": ["192.0.2.2", "192.0.2.1"]}})
    assert zone.hears() == DnsAnswer("www.example.com", (A1, A2))
    resolver.drop(["www.example.com"])
    resolver.ask(["other.example.com"])
    assert zone.hears() == DnsAnswer("other.example.com", fault="there is no such name")


def measured(resolver: Resolver) -> dict[str, dict[str, float]]:
    """Values of its metrics, those that aren't 0, by name and label."""
    return {
        metric.name: {next(iter(s.labels.values())): s.value for s in metric.samples if s.value}
        for metric in resolver.metrics()
    }


def test_metrics_tell_what_is_known_of_names(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovnkit_egress_firewall.schedule.RETRY", 0.1)
    zone.write({"www.example.com": {"A": ["192.0.2.1"]}})
    resolver = zone.resolver(4)
    assert measured(resolver) == {"dns_names": {}, "dns_lookups": {}}
    resolver.ask(["www.example.com", "none.example.com"])
    wait_until(lambda: measured(resolver)["dns_names"] == {"resolved": 1, "unresolved": 1}, 30, "both known")
    wait_until(lambda: measured(resolver)["dns_lookups"].get("failed", 0) >= 2, 30, "it is asked for again")
    assert measured(resolver)["dns_lookups"]["answered"] >= 1
    resolver.drop(["none.example.com"])
    zone.write({"www.example.com": {"rcode": "SERVFAIL"}})
    wait_until(lambda: measured(resolver)["dns_names"] == {"stale": 1}, 30, "the other one's addresses hold")
    assert {metric.name: metric.kind for metric in resolver.metrics()} == {
        "dns_names": MetricKind.GAUGE, "dns_lookups": MetricKind.COUNTER
    }  # fmt: skip


def test_only_the_clusters_families_are_asked_for(zone: Zone) -> None:
    zone.write({"www.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}})
    zone.resolver(6).ask(["www.example.com"])
    assert zone.hears().addresses == (V6,)


def test_many_addresses_come_over_tcp_and_aliases_are_followed(zone: Zone) -> None:
    many = [f"192.0.2.{number}" for number in range(1, 201)]
    zone.write({"www.example.com": {"CNAME": "farm.example.net"}, "farm.example.net": {"A": many}})
    zone.resolver().ask(["www.example.com"])
    assert [str(address) for address in zone.hears().addresses] == many


def test_what_was_good_survives_a_server_that_fails(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "TIMEOUT", 0.2)
    monkeypatch.setattr("ovnkit_egress_firewall.schedule.RETRY", 0.3)
    zone.write({"www.example.com": {"A": ["192.0.2.1"]}})
    resolver = zone.resolver(4)
    resolver.ask(["www.example.com"])
    assert zone.hears().addresses == (A1,)
    zone.write({"www.example.com": {"rcode": "SERVFAIL"}})
    for _ in range(3):  # three rounds of questions that get no answer
        zone.line()
    zone.write({"www.example.com": {"silent": True}})
    for _ in range(3):
        zone.line()
    assert zone.told.empty()
    zone.write({"www.example.com": {"A": ["192.0.2.3"]}})
    assert zone.hears().addresses == (A3,)


@pytest.mark.parametrize("refusal", ["FORMERR", "NOTIMP", "BADVERS", "garbage", "silence"])
def test_a_server_that_does_not_understand_edns_is_asked_without(
    zone: Zone, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(lookup, "TIMEOUT", 0.5)
    zone.write({"www.example.com": {"A": ["192.0.2.1"], "edns": refusal}})
    zone.resolver(4).ask(["www.example.com"])
    assert zone.hears() == DnsAnswer("www.example.com", (A1,), V4_ONLY)


def test_an_answer_is_used_before_others_come_or_fail_to(zone: Zone, tmp_path: Path) -> None:
    dead = Zone(tmp_path / "dead")
    try:
        dead.write({"www.example.com": {"silent": True}})
        zone.write({"www.example.com": {"A": ["192.0.2.1"], "AAAA": None}})
        zone.resolver(4, 6, dns_servers=(dead.server, zone.server)).ask(["www.example.com"])
        begun = time.monotonic()
        assert zone.hears() == DnsAnswer("www.example.com", (A1,), V4_ONLY)
        zone.write({"www.example.com": {"A": ["192.0.2.2"], "AAAA": ["2001:db8::1"]}})
        assert zone.hears(lambda answer: V6 in answer.addresses).known == {4, 6}
        assert time.monotonic() - begun < 2 * lookup.TIMEOUT, "nothing waited for the dead server's time to pass"
    finally:
        dead.close()


def test_a_dead_server_does_not_hold_up_many_names(zone: Zone, tmp_path: Path) -> None:
    """In rounds of AT_ONCE names that each wait five seconds for it, these would take half a minute."""
    dead = Zone(tmp_path / "dead")
    names = [f"{number}.example.com" for number in range(6 * AT_ONCE)]
    try:
        dead.write({name: {"silent": True} for name in names})
        zone.write({name: {"A": ["192.0.2.1"], "ttl": 600} for name in names})
        begun = time.monotonic()
        zone.resolver(4, dns_servers=(dead.server, zone.server)).ask(names)
        assert {zone.hears().name for _ in names} == set(names)
        assert time.monotonic() - begun < 15
    finally:
        dead.close()


def test_a_name_that_is_gone_is_told_once_its_time_is_over(zone: Zone) -> None:
    zone.write({"www.example.com": {"A": ["192.0.2.1"], "ttl": 1}})
    zone.resolver(4).ask(["www.example.com"])
    assert zone.hears().addresses == (A1,)
    zone.write({})
    assert zone.hears() == DnsAnswer("www.example.com", (), V4_ONLY, "there is no such name")


@pytest.mark.parametrize(
    ("entry", "why"),
    [({"rcode": "REFUSED"}, "{} says REFUSED"), ({"silent": True}, "{} does not answer")],
    ids=["refused", "silent"],
)
def test_who_cannot_say_is_named(zone: Zone, monkeypatch: pytest.MonkeyPatch, entry: Any, why: str) -> None:
    monkeypatch.setattr(lookup, "TIMEOUT", 0.2)
    zone.write({"www.example.com": entry})
    zone.resolver(4).ask(["www.example.com"])
    assert zone.hears() == DnsAnswer("www.example.com", known=frozenset(), fault=why.format(zone.server))


def test_a_name_without_records_of_a_family(zone: Zone) -> None:
    zone.write({"www.example.com": {"A": ["192.0.2.1"]}})
    zone.resolver(6).ask(["www.example.com"])
    assert zone.hears() == DnsAnswer("www.example.com", (), V6_ONLY, "it has no AAAA record")


def test_a_server_may_have_an_ipv6_address(zone: Zone, tmp_path: Path) -> None:
    other = Zone(tmp_path / "other", "::1")
    try:
        other.write({"www.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}})
        other.resolver().ask(["www.example.com"])
        assert other.hears() == DnsAnswer("www.example.com", (A1, V6))
    finally:
        other.close()


def test_all_servers_are_asked_and_one_good_one_suffices(zone: Zone, tmp_path: Path) -> None:
    other = Zone(tmp_path / "other")
    try:
        zone.write({"www.example.com": {"A": ["192.0.2.1"]}, "x.example": {"rcode": "SERVFAIL"}})
        other.write({"www.example.com": {"A": ["192.0.2.2"]}, "x.example": {"A": ["192.0.2.3"]}})
        resolver = zone.resolver(4, dns_servers=(zone.server, other.server))
        resolver.ask(["www.example.com"])
        assert zone.hears().addresses == (A1, A2)
        resolver.ask(["x.example"])
        assert zone.hears(lambda answer: answer.name == "x.example").addresses == (A3,)
    finally:
        other.close()


def test_the_hosts_resolv_conf_is_read_again_when_it_changes(
    zone: Zone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovnkit_egress_firewall.schedule.RETRY", 0.1)
    conf = tmp_path / "resolv.conf"
    zone.write({"www.example.com": {"A": ["192.0.2.1"]}})
    resolver = zone.resolver(4, dns_servers=(), resolv_conf=str(conf))
    resolver.ask(["www.example.com"])
    assert zone.hears() == DnsAnswer("www.example.com", known=frozenset(), fault=f"{conf} names no DNS server")
    conf.write_text("search example.com\nnameserver 127.0.0.1\n")
    monkeypatch.setattr(
        "ovnkit_egress_firewall.resolver.Server", lambda address: Server(address, zone.port), raising=True
    )
    assert zone.hears().addresses == (A1,)


# -- options and names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.53", "192.0.2.53", 53),
        ("192.0.2.53:5353", "192.0.2.53", 5353),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:db8::53]:5353", "2001:db8::53", 5353),
    ],
)
def test_servers_are_addresses_with_or_without_a_port(text: str, address: str, port: int) -> None:
    assert Server.parse(text) == Server(address, port)
    assert str(Server.parse(text)) == text


@pytest.mark.parametrize("text", ["", "dns.example.com", "192.0.2.53:", "192.0.2.53:x", "[192.0.2.53]:53", "[::1"])
def test_anything_else_is_a_wrong_configuration(text: str) -> None:
    config = Config().with_options("egress_firewall", EgressFirewallOptions(dns_servers=(text,)))
    with pytest.raises(ConfigError, match="dns-servers"):
        EgressFirewallPlugin().ovnkit_check_config(config)


@pytest.mark.parametrize("text", ["WWW.Example.COM.", "*.example.com", "localhost", "a-b.c", "x" * 63 + ".com"])
def test_names(text: str) -> None:
    assert DnsName.parse(text).text == text.lower().removesuffix(".")


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "-a.b", "a.b-", "*", "a.*.b", "x" * 64 + ".com", "a.b" * 90, "é.com", "a b", 'a"', None, 7],
)
def test_no_names(text: Any) -> None:
    with pytest.raises(Reject, match="is not a name"):
        DnsName.parse(text)
