"""What an EgressFirewall becomes: matches, priorities, status; and what bad rules do."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.items import Status
from ovnkit.api.matches.syntax import fault
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DNS_NAME_RESOLVERS, DNS_SETS, DnsAnswer, DnsName, DnsSet
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, Rule
from ovnkit_egress_firewall.plugin import EgressFirewallPlugin

DUAL = Config(
    default=DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48"))))
)
GROUP = hash_name("default-network-controller:Namespace:shop")
DENY_ALL = "(ip4.dst == 0.0.0.0/0 && ip4.dst != 10.128.0.0/14) || (ip6.dst == ::/0 && ip6.dst != fd01::/48)"


def bench(*roles: Role) -> Bench:
    found = Bench(EgressFirewallPlugin(), scope=scope(*(roles or (Role.ZONE,)), zone="n1"), config=DUAL)
    found.put(NODES, node("n1"), node("n2"))
    return found


def firewall(*rules: Any, name: str = "default", messages: tuple[str, ...] = ()) -> Any:
    return EGRESS_FIREWALLS.view(
        {
            "metadata": {"name": name, "namespace": "shop", "uid": "u"},
            "spec": {"egress": list(rules)},
            "status": {"messages": list(messages)},
        }
    )


def rule(kind: str, cidr: Any, *ports: tuple[str, Any]) -> dict[str, Any]:
    listed = [{"protocol": protocol, "port": port} for protocol, port in ports]
    return {"type": kind, "to": {"cidrSelector": cidr}, **({"ports": listed} if ports else {})}


def acls(found: Bench) -> dict[int, Any]:
    return {int(row["external_ids"]["rule-index"]): row for row in found.rows("ACL").values()}


def match(found: Bench, number: int) -> str:
    text = str(acls(found)[number]["match"])
    return text.replace(f"inport == @{GROUP}", "PODS")


def messages(found: Bench) -> list[str]:
    return [text for item in found.kube.items if isinstance(item, Status) and item.manager == "n1"
            for text in item.content["messages"]]  # fmt: skip


def resolve(found: Bench, name: str, *addresses: str, known: tuple[int, ...] = (4, 6), fault: str = "") -> None:
    """The resolver has an answer; what goes to the northbound for it is seen there."""
    answer = DnsAnswer(name, tuple(map(ip_address, addresses)), frozenset(known), fault)
    found.put(DNS_ANSWERS, answer)
    see_sets(found)


def see_sets(found: Bench) -> None:
    rows = [
        DnsSet(name, tuple(map(ip_address, row["addresses"]))) for name, row in found.rows("Address_Set").items()
    ]
    found.put(DNS_SETS, *rows)
    gone = {view.key for view in found.reconciler.objects(DNS_SETS)} - {row.key for row in rows}
    found.drop(DNS_SETS, *gone)


def asked(found: Bench) -> set[str]:
    return {item.key for item in found.answers.items}


def dns(kind: str, name: Any, *ports: tuple[str, Any]) -> dict[str, Any]:
    return {**rule(kind, "", *ports), "to": {"dnsName": name}}


def set_content(found: Bench, name: str, family: int) -> set[str] | None:
    row = found.rows("Address_Set").get(DnsName(name).set_name(family))
    return None if row is None else set(row["addresses"])


def test_rules_keep_their_order_and_spare_the_cluster() -> None:
    found = bench()
    found.put(
        EGRESS_FIREWALLS,
        firewall(
            rule("Allow", "192.0.2.0/24", ("UDP", 55), ("TCP", 80), ("TCP", 443)),
            rule("Allow", "10.128.3.7/32"),
            rule("Allow", "2001:db8::/32", ("SCTP", 9), ("UDP", 55)),
            rule("Deny", "0.0.0.0/0"),
        ),
    )
    assert match(found, 0) == (
        "(ip4.dst == 192.0.2.0/24) && PODS && ((udp && ( udp.dst == 55 )) || "
        "(tcp && ( tcp.dst == 80 || tcp.dst == 443 )))"
    )
    assert match(found, 1) == "(ip4.dst == 10.128.3.7/32 && ip4.dst != 10.128.0.0/14) && PODS"
    assert match(found, 2) == (
        "(ip6.dst == 2001:db8::/32) && PODS && ((udp && ( udp.dst == 55 )) || (sctp && ( sctp.dst == 9 )))"
    )
    assert match(found, 3) == "(ip4.dst == 0.0.0.0/0 && ip4.dst != 10.128.0.0/14) && PODS"
    rows = acls(found)
    assert [rows[number]["priority"] for number in range(4)] == [10000, 9999, 9998, 9997]
    assert [rows[number]["action"] for number in range(4)] == ["allow", "allow", "allow", "drop"]
    assert {row["direction"] for row in rows.values()} == {"to-lport"}
    assert rows[3]["name"] == "EF:shop:3"
    assert rows[3]["external_ids"]["k8s.ovn.org/id"] == "default-network-controller:EgressFirewall:shop:3"
    assert messages(found) == ["n1: EgressFirewall Rules applied"]


def test_a_shorter_list_leaves_no_acl() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(*(rule("Deny", f"192.0.2.{number}/32") for number in range(4))))
    found.put(EGRESS_FIREWALLS, firewall(rule("Deny", "192.0.2.0/32")))
    assert set(acls(found)) == {0}
    found.drop(EGRESS_FIREWALLS, "shop/default")
    assert not acls(found)


def test_nodes_are_found_by_their_labels_and_followed() -> None:
    found = bench()
    text = json.dumps(["192.0.2.9/24", "2001:db8::9/64"])
    good = node("n3", {"k8s.ovn.org/host-cidrs": text}, labels={"role": "$gw"})
    broken = node("n4", {"k8s.ovn.org/host-cidrs": '["x'}, labels={"role": "$gw"})
    selector = {"type": "Allow", "to": {"nodeSelector": {"matchLabels": {"role": "$gw"}}}}
    found.put(EGRESS_FIREWALLS, firewall(selector, rule("Deny", "0.0.0.0/0")))
    assert set(acls(found)) == {1}, "a selector that selects no node has no ACL"
    found.put(NODES, good, broken)
    assert match(found, 0) == "(ip4.dst == 192.0.2.9 || ip6.dst == 2001:db8::9) && PODS"
    found.drop(NODES, "n3")
    assert set(acls(found)) == {1}


def test_bad_rules_are_named_and_fail_closed_while_others_hold() -> None:
    found = bench(Role.ZONE, Role.CLUSTER)
    found.put(
        EGRESS_FIREWALLS,
        firewall(
            rule("Allow", "300.1.1.1/8"),
            rule("Allow", "192.0.2.0/24", ("TCP", 70000)),
            rule("Deny", "nonsense", ("TCP", 25)),
            rule("Allow", "192.0.2.1/32"),
            {"type": "AllowX", "to": {"cidrSelector": "0.0.0.0/0"}},
            {"type": "Allow", "to": {"dnsName": "-x.example.com"}},
            "what",
        ),
    )
    assert set(acls(found)) == {2, 3, 4, 6}
    assert match(found, 2) == f"({DENY_ALL}) && PODS && ((tcp && ( tcp.dst == 25 )))"
    assert match(found, 4) == f"({DENY_ALL}) && PODS"
    assert acls(found)[4]["action"] == "drop"
    assert acls(found)[3]["action"] == "allow"
    [said] = messages(found)
    assert said.startswith("n1: EgressFirewall Rules not correctly applied: rule 0: cidrSelector '300.1.1.1/8'")
    assert "rule 1: port 70000" in said
    assert any(reason == "InvalidRule" and "rule 2:" in text for _, reason, text in found.events)


@pytest.mark.parametrize(
    "cidr",
    ["fd00:172:18::%lan/64", "fd00:172:18::/64%lan", "10.0.0.0/255.0.0.0", "10.0.0.0/08", "::ffff:10.0.0.0/104",
     "10.0.0.0/8 || ip4", "10.0.0.0/\u0668", "10.0.0.0/8\n", "\ud800", "1" * 100_000],
)  # fmt: skip
def test_a_network_that_ovn_reads_differently_closes(cidr: str) -> None:
    found = bench(Role.ZONE, Role.CLUSTER)
    rules = (rule("Allow", cidr), rule("Deny", cidr), rule("Allow", "0.0.0.0/0"))
    found.put(EGRESS_FIREWALLS, firewall(*rules))
    assert set(acls(found)) == {1, 2}, "an Allow that can't be read allows nothing"
    assert match(found, 1) == f"({DENY_ALL}) && PODS"
    [said] = messages(found)
    assert said.startswith("n1: EgressFirewall Rules not correctly applied: rule 0: cidrSelector ")
    assert ("shop/default", "InvalidRule") in [event[:2] for event in found.events]


def test_past_the_limit_everything_is_denied() -> None:
    found = bench()
    rules = [rule("Allow", "192.0.2.0/24")] * 8000
    found.put(EGRESS_FIREWALLS, firewall(*rules))
    assert set(acls(found)) == set(range(8000))
    found.put(EGRESS_FIREWALLS, firewall(*rules, rule("Deny", "0.0.0.0/0")))
    rows = acls(found)
    assert rows[8000]["action"] == "drop"
    assert rows[8000]["priority"] == 2000
    assert "8001 rules are more than 8000" in messages(found)[0]


def test_a_zone_applies_its_own_line_and_the_cluster_takes_away_those_of_zones_that_are_gone() -> None:
    found = bench(Role.ZONE, Role.CLUSTER)
    said = ("n2: EgressFirewall Rules applied", "gone: EgressFirewall Rules applied", "n1: old")
    found.put(EGRESS_FIREWALLS, firewall(messages=said))
    applied = {item.manager: item.content for item in found.kube.items
               if isinstance(item, Status) and item.manager}  # fmt: skip
    assert applied == {"n1": {"messages": ["n1: EgressFirewall Rules applied"]}, "gone": {}}


def test_what_other_zones_say_renders_no_rule_again() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(rule("Deny", "0.0.0.0/0")))
    before = dict(found.reconciler.renders_total)
    found.put(
        EGRESS_FIREWALLS, firewall(rule("Deny", "0.0.0.0/0"), messages=("n2: EgressFirewall Rules applied",))
    )
    assert found.reconciler.renders_total == before


def test_rules_are_read_once_per_generation() -> None:
    def view(generation: int, cidr: str, *messages: str) -> Any:
        raw = {"metadata": {"name": "default", "namespace": "shop", "uid": "one", "generation": generation}}
        spec = {"egress": [rule("Deny", cidr)]}
        return EGRESS_FIREWALLS.view({**raw, "spec": spec, "status": {"messages": list(messages)}})

    first = view(1, "192.0.2.0/24")
    assert view(1, "192.0.2.0/24", "n2: said").rules is first.rules
    assert view(2, "198.51.100.0/24").rules != first.rules


def test_events_tell_what_zones_could_not_apply() -> None:
    found = bench(Role.CLUSTER)
    bad = "EgressFirewall Rules not correctly applied: rule 1: dnsName x.example has no addresses: why"
    found.put(EGRESS_FIREWALLS, firewall(messages=(f"n1: {bad}", f"n2: {bad}")))
    reasons = [(reason, text) for _, reason, text in found.events]
    assert reasons == [("RuleNotApplied", "rule 1: dnsName x.example has no addresses: why")]


def test_a_name_has_one_pair_of_sets_however_many_rules_and_spellings() -> None:
    found = bench()
    found.put(
        EGRESS_FIREWALLS, firewall(dns("Allow", "WWW.Example.com.", ("TCP", 443)), dns("Deny", "www.example.com"))
    )
    assert asked(found) == {"www.example.com"}
    assert set(acls(found)) == {1}, "an Allow of a name nobody knows allows nothing"
    resolve(found, "www.example.com", "192.0.2.7", "2001:db8::7", "10.128.0.9")
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7"}, "addresses of the cluster are left out"
    assert set_content(found, "www.example.com", 6) == {"2001:db8::7"}
    assert DnsName("www.example.com").set_name(4) == "a12914375883585904450", (
        "the name that OVN-Kubernetes gives it"
    )
    sets = f"(ip4.dst == $a12914375883585904450 || ip6.dst == ${DnsName('www.example.com').set_name(6)})"
    assert match(found, 0) == f"{sets} && PODS && ((tcp && ( tcp.dst == 443 )))"
    assert match(found, 1) == f"{sets} && PODS"
    assert messages(found) == ["n1: EgressFirewall Rules applied"]


def test_new_addresses_touch_the_set_alone() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com")))
    resolve(found, "www.example.com", "192.0.2.7")
    before = found.reconciler.renders_total[("egress_firewall", "rules")]
    resolve(found, "www.example.com", "192.0.2.8")
    assert set_content(found, "www.example.com", 4) == {"192.0.2.8"}
    assert found.reconciler.renders_total[("egress_firewall", "rules")] == before


def test_a_naming_a_set_only_when_the_northbound_has_it() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com")))
    found.put(DNS_ANSWERS, DnsAnswer("www.example.com", (ip_address("192.0.2.7"),)))
    assert match(found, 0) == f"({DENY_ALL}) && PODS"
    see_sets(found)
    assert "$" in match(found, 0)


def test_a_deny_of_a_name_nobody_can_resolve_is_closed_and_says_so() -> None:
    found = bench()
    found.put(
        EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com", ("TCP", 25)), dns("Allow", "www.example.com"))
    )
    assert match(found, 0) == f"({DENY_ALL}) && PODS && ((tcp && ( tcp.dst == 25 )))"
    assert messages(found) == [], "too early to say"
    resolve(found, "www.example.com", known=(), fault="192.0.2.53 does not answer")
    assert set(acls(found)) == {0}
    why = "dnsName www.example.com has no addresses: 192.0.2.53 does not answer"
    assert messages(found) == [
        f"n1: EgressFirewall Rules not correctly applied: rule 0: {why}; meanwhile it denies every destination "
        f"outside the cluster; rule 1: {why}"
    ]


def test_what_ovn_has_no_match_for_is_closed_and_told() -> None:
    strange = IPv6Network((0xFD00 << 112, 64))
    object.__setattr__(strange.network_address, "_scope_id", "lan")  # it prints as fd00::%lan/64
    found = bench()
    view = evolve(
        firewall(),
        rules=(Rule(True, strange), Rule(False, strange), Rule(False, IPv4Network("192.0.2.0/24"))),
    )
    found.put(EGRESS_FIREWALLS, view)
    assert "%" in str(strange)
    assert set(acls(found)) == {1, 2}, "the Allow opens nothing"
    assert match(found, 1) == f"({DENY_ALL}) && PODS"
    assert match(found, 2) == "(ip4.dst == 192.0.2.0/24) && PODS"
    (text,) = messages(found)
    assert text.startswith("n1: EgressFirewall Rules not correctly applied: rule 0: OVN has no match for its dest")
    assert "it denies every destination outside the cluster" in text


@given(text=st.from_regex(r"[0-9a-f:.]{2,18}(%[a-z0-9]{1,4})?/[0-9]{1,3}", fullmatch=True))
def test_every_deny_of_a_cidr_is_a_match_that_ovn_can_parse(text: str) -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(rule("Deny", text), rule("Deny", "fd00:172:18::%lan/64")))
    for number in (0, 1):
        assert fault(str(acls(found)[number]["match"])) == ""


def test_a_name_known_for_one_family_is_closed_for_the_other_in_a_deny_alone() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com"), dns("Allow", "www.example.com")))
    resolve(found, "www.example.com", "192.0.2.7", known=(4,))
    in_set = f"ip4.dst == ${DnsName('www.example.com').set_name(4)}"
    assert match(found, 0) == f"({in_set} || ({DENY_ALL.partition(' || (')[2]}) && PODS"
    assert match(found, 1) == f"({in_set}) && PODS"
    assert messages(found) == [], "too early to say"
    resolve(found, "www.example.com", "192.0.2.7", known=(4,), fault="192.0.2.53 does not answer")
    assert messages(found) == [
        "n1: EgressFirewall Rules not correctly applied: rule 0: dnsName www.example.com has no IPv6 addresses: "
        "192.0.2.53 does not answer; meanwhile it denies every IPv6 destination outside the cluster"
    ]
    resolve(found, "www.example.com", "192.0.2.7")
    assert match(found, 0) == match(found, 1)
    assert messages(found) == ["n1: EgressFirewall Rules applied"]


def test_a_name_that_does_not_exist_is_told_and_matches_nothing() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com"), rule("Deny", "192.0.2.0/24")))
    resolve(found, "www.example.com", fault="there is no such name")
    assert "$" in match(found, 0)
    assert set_content(found, "www.example.com", 4) == set()
    assert match(found, 1) == "(ip4.dst == 192.0.2.0/24) && PODS"
    assert messages(found)[0].endswith("rule 0: dnsName www.example.com has no addresses: there is no such name")


def test_names_stay_as_they_were_over_a_restart_without_dns() -> None:
    found = bench()
    sets = {family: DnsName("www.example.com").set_name(family) for family in (4, 6)}
    found.put(DNS_SETS, DnsSet(sets[4], (ip_address("192.0.2.7"),)), DnsSet(sets[6], ()))
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com")))
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7"}
    assert "$" in match(found, 0)
    assert messages(found) == ["n1: EgressFirewall Rules applied"]
    resolve(found, "www.example.com", known=(), fault="192.0.2.53 does not answer")
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7"}
    found.put(DNS_NAME_RESOLVERS, resolver("www.example.com.", "192.0.2.9"))
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7", "192.0.2.9"}
    found.drop(DNS_NAME_RESOLVERS, "ovn-kubernetes/dns-1")
    resolve(found, "www.example.com", "192.0.2.8")
    assert set_content(found, "www.example.com", 4) == {"192.0.2.8"}


def test_a_name_nobody_mentions_any_more_goes() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "www.example.com"), dns("Deny", "a.example")))
    resolve(found, "www.example.com", "192.0.2.7")
    found.put(EGRESS_FIREWALLS, firewall(dns("Deny", "a.example")))
    assert asked(found) == {"a.example"}
    assert found.rows("Address_Set") == {}


def resolver(name: str, *addresses: str, namespace: str = "ovn-kubernetes") -> Any:
    entries = [{"ip": address, "ttlSeconds": 5, "lastLookupTime": "2026-01-01T00:00:00Z"} for address in addresses]
    return DNS_NAME_RESOLVERS.view(
        {
            "metadata": {"name": "dns-1", "namespace": namespace, "uid": "r"},
            "spec": {"name": name},
            "status": {"resolvedNames": [{"dnsName": name, "resolvedAddresses": entries}]},
        }
    )


def test_a_wildcard_is_what_the_dns_server_of_the_cluster_gave_out() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Allow", "*.example.com"), dns("Deny", "*.example.com")))
    assert asked(found) == set()
    assert set(acls(found)) == {1}
    assert "rule 0: dnsName *.example.com has no addresses: no DNSNameResolver says" in messages(found)[0]
    found.put(DNS_NAME_RESOLVERS, resolver("*.example.com.", "192.0.2.7", "nonsense"))
    see_sets(found)
    assert set_content(found, "*.example.com", 4) == {"192.0.2.7"}
    assert "$" in match(found, 0)
    assert messages(found) == ["n1: EgressFirewall Rules applied"]
    found.put(DNS_NAME_RESOLVERS, resolver("*.example.com.", "192.0.2.8"))
    assert set_content(found, "*.example.com", 4) == {"192.0.2.8"}
    found.drop(DNS_NAME_RESOLVERS, "ovn-kubernetes/dns-1")
    see_sets(found)
    assert set(acls(found)) == {1}
    assert match(found, 1) == f"({DENY_ALL}) && PODS", "without the object nobody knows any more"


def test_only_the_own_namespaces_resolvers_count_and_they_add_to_our_answers() -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(dns("Allow", "www.example.com")))
    found.put(DNS_NAME_RESOLVERS, resolver("www.example.com.", "192.0.2.66", namespace="shop"))
    resolve(found, "www.example.com", "192.0.2.7")
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7"}
    found.put(DNS_NAME_RESOLVERS, resolver("www.example.com.", "192.0.2.9"))
    assert set_content(found, "www.example.com", 4) == {"192.0.2.7", "192.0.2.9"}


def test_the_cluster_says_applied_when_all_zones_did() -> None:
    def state(*said: str) -> list[Any]:
        found = bench(Role.CLUSTER)
        found.put(EGRESS_FIREWALLS, firewall(messages=said))
        return [item.content["status"] for item in found.kube.items if isinstance(item, Status)]

    good, bad = "EgressFirewall Rules applied", "EgressFirewall Rules not correctly applied"
    assert state(f"n1: {good}") == []
    assert state(f"n1: {good}", f"n2: {good}") == [good]
    assert state(f"n1: {good}", f"n2: {bad}: rule 1") == [bad]


def test_only_the_one_named_default_counts() -> None:
    found = bench(Role.ZONE, Role.CLUSTER)
    found.put(EGRESS_FIREWALLS, firewall(rule("Deny", "0.0.0.0/0"), name="other"))
    assert not acls(found)
    assert any("must be named default" in text for _, _, text in found.events)


NASTY = st.text(alphabet="abc.:/0123456789*-'\"$@&|{}()=! \\\n\u00e9", max_size=24)
DESTINATION = r"(?:[()]|ip[46](?:\.dst)?|==|!=|&&|\|\||[0-9a-f.:]+(?:/\d+)?|\$a\d+| )+"
MATCH = re.compile(
    rf"\({DESTINATION}\) && inport == @a\d+(?: && \((?:[()]|udp|tcp|sctp|\.dst|==|&&|\|\||\d+| )+\))?"
)
NAME = st.from_regex(r"(\*\.)?[A-Za-z0-9]{1,3}\.[a-z0-9]{1,3}\.?", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Allow", "Deny"]) | NASTY,
                "to": st.fixed_dictionaries({"cidrSelector": NASTY})
                | st.fixed_dictionaries({"dnsName": NASTY | NAME})
                | st.fixed_dictionaries({"nodeSelector": st.dictionaries(NASTY, st.dictionaries(NASTY, NASTY))})
                | NASTY,
                "ports": st.lists(
                    st.fixed_dictionaries({"protocol": st.just("TCP") | NASTY, "port": st.integers() | NASTY}),
                    max_size=2,
                )
                | NASTY,
            }
        ),
        max_size=4,
    ),
    st.dictionaries(NASTY, NASTY, max_size=2),
    NASTY,
    NASTY,
)
def test_no_text_of_an_object_reaches_a_match(rules: Any, labels: Any, cidrs: str, namespace: str) -> None:
    """Neither a rule's, nor a node's labels and annotations, nor the namespace's name."""
    found = bench()
    found.put(NODES, node("n3", {"k8s.ovn.org/host-cidrs": cidrs}, labels=labels))
    if labels:
        rules = [*rules, {"type": "Allow", "to": {"nodeSelector": {"matchLabels": labels}}}]
    view = firewall(*rules)
    found.put(EGRESS_FIREWALLS, evolve(view, namespace=namespace))
    assert not any(failure for failure in found.failures.values())
    for name in asked(found):
        resolve(found, name, "192.0.2.7")
    for row in acls(found).values():
        assert MATCH.fullmatch(row["match"]), row["match"]
        assert (
            row["action"] == "drop"
            or {"type": "Allow"}.items() <= rules[int(row["external_ids"]["rule-index"])].items()
        )
    for name, row in found.rows("Address_Set").items():
        assert re.fullmatch(r"a\d+", name)
        assert row["addresses"] == {"192.0.2.7"} or row["addresses"] == set()
