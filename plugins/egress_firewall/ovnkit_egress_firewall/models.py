"""Trimmed view of EgressFirewall and its kind. What can't be read is kept as a fault of its rule."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Kind, Raw, Resource
from ovnkit.api.models import ObjectView, metadata
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Network, check_port, parse_network, quoted
from ovnkit_egress_firewall.dnsnames import DnsName

PROTOCOLS = ("UDP", "TCP", "SCTP")
"""In the order of a match."""


@frozen
class RulePort:
    """A port of a protocol."""

    protocol: str
    port: int


Destination = Network | LabelSelector | DnsName | None
"""None: it can't be read."""


@frozen
class Rule:
    """One rule. Its destination is a network, the nodes that a selector selects, or what a name stands for.

    A rule with a `fault` can't be read: as an Allow it allows nothing, as a Deny it denies every destination
    outside the cluster. Without `ports` it is about all traffic.
    """

    allow: bool
    to: Destination = None
    ports: tuple[RulePort, ...] = ()
    fault: str = ""


@frozen
class EgressFirewall(ObjectView):
    """The firewall of a namespace; `messages` and `state` are what its status says now."""

    rules: tuple[Rule, ...]
    messages: tuple[str, ...] = ()
    state: str = ""


_REMEMBERED = 1000
_remembered: OrderedDict[str, tuple[Any, tuple[Rule, ...]]] = OrderedDict()
"""Generation and rules of the objects seen last, by UID. Each zone writes its line into the status, and each time
the whole object comes to all zones: reading 8,000 rules again for that would cost more than everything else."""


def _rules(raw: Raw) -> tuple[Rule, ...]:
    meta = raw["metadata"]
    uid, generation = str(meta.get("uid", "")), meta.get("generation")
    known = _remembered.get(uid)
    if known is not None and generation is not None and known[0] == generation:
        _remembered.move_to_end(uid)
        return known[1]
    rules = tuple(_rule(item) for item in (raw.get("spec") or {}).get("egress") or ())
    _remembered[uid] = generation, rules
    if len(_remembered) > _REMEMBERED:
        _remembered.popitem(last=False)
    return rules


def _view(raw: Raw) -> EgressFirewall:
    meta = {**metadata(raw), "labels": {}, "annotations": {}}
    status = raw.get("status") or {}
    return EgressFirewall(
        **meta,
        rules=_rules(raw),
        messages=tuple(str(text) for text in status.get("messages") or ()),
        state=str(status.get("status") or ""),
    )


def _rule(raw: object) -> Rule:
    # Only a plain Allow may open anything.
    if not isinstance(raw, Mapping):
        return Rule(False, fault="it is malformed")
    allow = raw.get("type") == "Allow"
    faults = (
        []
        if raw.get("type") in ("Allow", "Deny")
        else [f"type {quoted(raw.get('type'))} is neither Allow nor Deny"]
    )
    ports, wrong = _ports(raw.get("ports"))
    faults += wrong
    destination: Destination = None
    try:
        destination = _destination(raw.get("to"))
    except Reject as error:
        faults.append(error.message)
    except (TypeError, ValueError, AttributeError, KeyError):
        faults.append("its destination is malformed")
    # Ports that can't be read must not narrow a Deny.
    return Rule(allow, destination, () if wrong and not allow else ports, "; ".join(faults))


def _destination(raw: object) -> Destination:
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise Reject("it needs exactly one of cidrSelector, dnsName and nodeSelector")
    if "cidrSelector" in raw:
        try:
            return parse_network(raw["cidrSelector"])
        except ValueError as error:
            raise Reject(f"cidrSelector {error}") from None
    if "nodeSelector" in raw:
        return LabelSelector.parse(raw["nodeSelector"])
    if "dnsName" in raw:
        return DnsName.parse(raw["dnsName"])
    raise Reject("it needs one of cidrSelector, dnsName and nodeSelector")


def _ports(raw: Any) -> tuple[tuple[RulePort, ...], list[str]]:
    if not isinstance(raw or [], list):
        return (), ["ports is not a list"]
    found, faults = [], []
    for item in raw or ():
        protocol = item.get("protocol") if isinstance(item, Mapping) else None
        port = item.get("port") if isinstance(item, Mapping) else None
        try:
            if protocol not in PROTOCOLS:
                raise ValueError(f"protocol {quoted(protocol)} is not one of {', '.join(PROTOCOLS)}")
            found.append(RulePort(str(protocol), check_port(port)))
        except ValueError as error:
            faults.append(f"port {quoted(port)} of protocol {quoted(protocol)}: {error}")
    return tuple(found), faults


EGRESS_FIREWALLS: Kind[EgressFirewall] = Kind(
    "egress-firewalls", Resource("k8s.ovn.org/v1", "egressfirewalls", "EgressFirewall"), _view
)
