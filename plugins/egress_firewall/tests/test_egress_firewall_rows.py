"""What an EgressFirewall becomes: matches, priorities, status; and what bad rules do."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.items import Status
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.api.testing.bench import Bench, scope
from ovnkit.api.testing.objects import node
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
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
    return next(item.content["messages"] for item in found.kube.items if isinstance(item, Status))


def test_rules_keep_their_order_and_spare_the_cluster() -> None:
    found = bench()
    found.put(
        EGRESS_FIREWALLS,
        firewall(
            rule("Allow", "192.0.2.0/24", ("UDP", 55), ("TCP", 80), ("TCP", 443)),
            rule("Allow", "10.128.3.7/32"),
            rule("Allow", "2001:db8::/32", ("UDP", 55)),
            rule("Deny", "0.0.0.0/0"),
        ),
    )
    assert match(found, 0) == (
        "(ip4.dst == 192.0.2.0/24) && PODS && ((udp && ( udp.dst == 55 )) || "
        "(tcp && ( tcp.dst == 80 || tcp.dst == 443 )))"
    )
    assert match(found, 1) == "(ip4.dst == 10.128.3.7/32 && ip4.dst != 10.128.0.0/14) && PODS"
    assert match(found, 2) == "(ip6.dst == 2001:db8::/32) && PODS && ((udp && ( udp.dst == 55 )))"
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
            {"type": "Allow", "to": {"dnsName": "www.example.com"}},
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


def test_a_zone_says_its_own_and_keeps_what_living_zones_said() -> None:
    found = bench()
    said = ("n2: EgressFirewall Rules applied", "gone: EgressFirewall Rules applied", "n1: old")
    found.put(EGRESS_FIREWALLS, firewall(messages=said))
    assert messages(found) == ["n1: EgressFirewall Rules applied", "n2: EgressFirewall Rules applied"]


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


NASTY = st.text(alphabet="abc.:/0123456789*'\"$@&|{}()=! \\", max_size=24)
MATCH = re.compile(
    r"\((?:[()]|ip[46](?:\.dst)?|==|!=|&&|\|\||[0-9a-f.:]+(?:/\d+)?| )+\) && inport == @a\d+"
    r"(?: && \((?:[()]|udp|tcp|sctp|\.dst|==|&&|\|\||\d+| )+\))?"
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Allow", "Deny"]) | NASTY,
                "to": st.fixed_dictionaries({"cidrSelector": NASTY})
                | st.fixed_dictionaries({"dnsName": NASTY})
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
    )
)
def test_no_text_of_a_rule_reaches_a_match(rules: list[Any]) -> None:
    found = bench()
    found.put(EGRESS_FIREWALLS, firewall(*rules))
    assert not any(trouble for trouble in found.troubles.values())
    for row in acls(found).values():
        assert MATCH.fullmatch(row["match"]), row["match"]
        assert (
            row["action"] == "drop"
            or {"type": "Allow"}.items() <= rules[int(row["external_ids"]["rule-index"])].items()
        )
