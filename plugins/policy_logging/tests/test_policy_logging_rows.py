"""What the annotation does to ACLs, what wrong values get, and the meter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError
from ovnkit.api.hooks import AclLogging
from ovnkit.api.items import Row
from ovnkit.api.kinds import Kind
from ovnkit.api.models import NAMESPACES, NODES
from ovnkit.api.renderers import Role
from ovnkit.config.load import Override, load_config
from ovnkit.network.acl_logging import SEVERITIES
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, node
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
from ovnkit_egress_firewall.plugin import EgressFirewallPlugin
from ovnkit_network_policy.plugin import NetworkPolicyPlugin
from ovnkit_policy_logging.annotation import ANNOTATION, parse
from ovnkit_policy_logging.options import PolicyLoggingOptions
from ovnkit_policy_logging.plugin import PolicyLoggingPlugin

OFF = (False, None)


def bench(*roles: Role, **options: Any) -> Bench:
    config = Config().with_options("policy_logging", PolicyLoggingOptions(**options))
    found = Bench(
        PolicyLoggingPlugin(), NetworkPolicyPlugin(), EgressFirewallPlugin(),
        scope=scope(*(roles or (Role.ZONE, Role.CLUSTER)), zone="n1"), config=config,
    )  # fmt: skip
    found.put(NODES, node("n1"))
    return found


def filled(found: Bench, annotation: str | None, name: str = "shop") -> Bench:
    """A namespace with a policy and an egress firewall."""
    annotations = {} if annotation is None else {ANNOTATION: annotation}
    found.put(NAMESPACES, namespace(name, annotations=annotations))
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
    found.put(NETWORK_POLICIES, view(NETWORK_POLICIES, name, "web", spec))
    rules = [{"type": kind, "to": {"cidrSelector": "192.0.2.0/24"}} for kind in ("Allow", "Deny")]
    found.put(EGRESS_FIREWALLS, view(EGRESS_FIREWALLS, name, "default", {"egress": rules}))
    return found


def view(kind: Kind[Any], space: str, name: str, spec: Mapping[str, Any]) -> Any:
    return kind.view({"metadata": {"namespace": space, "name": name, "uid": name}, "spec": spec})


def all_acls(found: Bench) -> list[Mapping[str, Any]]:
    items = found.databases["nb"].items
    return [item.columns for item in items if isinstance(item, Row) and item.table == "ACL"]


def acls(found: Bench, space: str = "shop") -> dict[str, tuple[bool, str | None]]:
    """log and severity of a namespace's ACLs by name; those for ARP are named with what they are for."""
    logged = {}
    for row in all_acls(found):
        name, kind = str(row.get("name", "")), row["external_ids"].get("type", "")
        if name.split(":")[1:2] == [space]:
            assert str(row["meter"]) == "acl-logging"
            logged[f"{name} {kind}".strip()] = (row["log"], row["severity"])
    return logged


def test_denied_and_allowed_have_their_own_severity() -> None:
    found = filled(bench(), '{"deny": "alert", "allow": "notice"}')
    assert acls(found) == {
        "NP:shop:web:Ingress:0": (True, "notice"),
        "NP:shop:web:Egress:0": (True, "notice"),
        "NP:shop:Ingress defaultDeny": (True, "alert"),
        "NP:shop:Egress defaultDeny": (True, "alert"),
        "NP:shop:Ingress arpAllow": OFF,
        "NP:shop:Egress arpAllow": OFF,
        "EF:shop:0": (True, "notice"),
        "EF:shop:1": (True, "alert"),
    }
    logged = {row["external_ids"]["k8s.ovn.org/owner-type"] for row in all_acls(found) if row.get("log")}
    assert logged == {"NetworkPolicy", "NetpolNamespace", "EgressFirewall"}, "not those that hold for all pods"


def test_without_the_annotation_nothing_is_logged_and_rows_are_as_without_the_plugin() -> None:
    found = filled(bench(), None)
    assert set(acls(found).values()) == {OFF}
    without = Bench(NetworkPolicyPlugin(), EgressFirewallPlugin(), scope=scope(Role.ZONE, Role.CLUSTER, zone="n1"))
    without.put(NODES, node("n1"))
    filled(without, None)
    assert found.rows("Port_Group") == without.rows("Port_Group")
    assert acls(found) == acls(without)


def test_the_annotation_is_followed_and_concerns_its_namespace_only() -> None:
    found = filled(filled(bench(), '{"deny":"info"}'), '{"allow":"debug"}', "other")
    assert acls(found)["EF:shop:0"] == OFF
    assert acls(found)["EF:shop:1"] == (True, "info")
    assert acls(found, "other")["EF:other:1"] == OFF
    found.annotate(NAMESPACES, "shop", {ANNOTATION: '{"deny":"warning","allow":""}'})
    assert acls(found)["NP:shop:Egress defaultDeny"] == (True, "warning")
    before = acls(found, "other")
    found.annotate(NAMESPACES, "shop", {ANNOTATION: None})
    assert set(acls(found).values()) == {OFF}
    assert acls(found, "other") == before


def test_other_changes_of_the_namespace_render_no_policy_again() -> None:
    found = filled(bench(), '{"deny":"info"}')
    memory = found.databases["nb"]
    before = memory.wants
    found.put(NAMESPACES, evolve(found.get(NAMESPACES, "shop"), labels={"team": "a"}))
    found.annotate(NAMESPACES, "shop", {"example.com/colour": "red"})
    assert memory.wants == before
    found.annotate(NAMESPACES, "shop", {ANNOTATION: '{"deny": "info"}'})
    assert memory.wants == before, "the same levels, written otherwise"
    found.annotate(NAMESPACES, "shop", {ANNOTATION: '{"deny": "alert"}'})
    assert memory.wants > before


@pytest.mark.parametrize(
    ("text", "expected", "faults"),
    [
        ("", AclLogging(), ()),
        ("{}", AclLogging(), ()),
        ('{"allow":"","deny":null}', AclLogging(), ()),
        ('{"deny":"alert"', AclLogging(), ("is not JSON",)),
        ("deny=alert", AclLogging(), ("is not JSON",)),
        ('["alert"]', AclLogging(), ("is not a JSON object",)),
        ('{"deny":"loud","allow":"info"}', AclLogging(allow="info"), ("deny is 'loud'",)),
        ('{"deny":"Alert"}', AclLogging(), ("deny is 'Alert'",)),
        ('{"deny":["alert"],"allow":3}', AclLogging(), ("deny is ['alert']", "allow is 3")),
        ('{"Deny":"alert","allow":"debug"}', AclLogging(allow="debug"), ("key 'Deny'",)),
    ],
)
def test_what_an_annotation_says(text: str, expected: AclLogging, faults: tuple[str, ...]) -> None:
    found = parse(text)
    assert found.logging == expected
    assert len(found.faults) == len(faults)
    for said, wanted in zip(found.faults, faults, strict=True):
        assert wanted in said


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(SEVERITIES),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("allow", "deny", "x")), inner),
        ).map(json.dumps),
    )
)
def test_whatever_it_says_only_known_severities_come_of_it(text: str) -> None:
    found = parse(text)
    assert {found.logging.allow, found.logging.deny} <= {"", *SEVERITIES}
    assert all(len(fault) < 300 for fault in found.faults)


def test_wrong_values_are_told_on_the_namespace_and_the_rest_holds() -> None:
    found = filled(bench(), '{"deny":"alert","allow":"loud"}')
    [(key, reason, message)] = found.events
    assert (key, reason) == ("shop", "InvalidAnnotation")
    assert message.startswith(f"annotation {ANNOTATION}: allow is 'loud', which is not one of alert, warning")
    assert acls(found)["EF:shop:1"] == (True, "alert")
    assert acls(found)["EF:shop:0"] == OFF
    found.annotate(NAMESPACES, "shop", {ANNOTATION: "{"})
    assert [reason for _, reason, _ in found.events] == ["InvalidAnnotation"]
    assert set(acls(found).values()) == {OFF}
    found.annotate(NAMESPACES, "shop", {ANNOTATION: '{"deny":"alert"}'})
    assert found.events == []
    assert acls(found)["NP:shop:Ingress defaultDeny"] == (True, "alert")


def test_zones_leave_events_to_the_cluster() -> None:
    assert filled(bench(Role.ZONE), "{").events == []


@pytest.mark.parametrize(("per", "fair"), [("acl", True), ("node", False)])
def test_the_meter(per: str, fair: bool) -> None:
    found = bench(Role.ZONE, acl_logging_rate_limit=7, rate_limit_per=per)
    assert found.row("Meter", "acl-logging") == {"name": "acl-logging", "unit": "pktps", "fair": fair}
    [band] = found.rows("Meter_Band").values()
    assert band == {"action": "drop", "rate": 7}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("destination", "udp:192.0.2.1"),
        ("destination", "udp:192.0.2.1:0"),
        ("destination", "unix:relative"),
        ("destination", "tcp:192.0.2.1:514"),
        ("syslog-facility", "local8"),
        ("max-log-files", "0"),
        ("max-file-size", "0"),
        ("acl-logging-rate-limit", "0"),
        ("rate-limit-per", "cluster"),
    ],
)
def test_wrong_options_are_named(key: str, value: str) -> None:
    sections = {"policy_logging": PolicyLoggingOptions}
    with pytest.raises(ConfigError, match=rf"--set: \[policy_logging\] {key}: .*{value}"):
        load_config(overrides=[Override("policy_logging", key, value)], plugin_options=sections)
