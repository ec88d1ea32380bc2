"""Trimmed view of NetworkPolicy and its kind.

Selectors are typed, all else is as written: whoever compiles a policy checks CIDRs and ports, because one bad
rule must not hide the rest of the object. What can't even be read is kept as a `fault`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import field, frozen

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Kind, Raw, Resource
from ovnkit.api.models import ObjectView, metadata
from ovnkit.api.selectors import EVERYTHING, LabelSelector

T = TypeVar("T")
STATELESS = "k8s.ovn.org/acl-stateless"
"""Annotation of a policy: its rules keep no connection state, where the configuration allows that."""

_READ_ANNOTATIONS = frozenset({STATELESS})


@frozen
class PolicyPort:
    """A port of a rule. `port` is a number, a container port's name, or None for all ports of the protocol."""

    protocol: str
    port: int | str | None = None
    end_port: int | None = None


@frozen
class IpBlock:
    """A CIDR without some parts, as written."""

    cidr: str
    excepts: tuple[str, ...] = ()


@frozen
class PolicyPeer:
    """One peer: pods and namespaces by labels (None: that selector is missing), or a block of addresses.

    A peer with a `fault` can't be read, and matches nobody.
    """

    pods: LabelSelector | None = None
    namespaces: LabelSelector | None = None
    block: IpBlock | None = None
    fault: str = ""


@frozen
class PolicyRule:
    """One rule. Without peers it allows everyone, without ports every protocol.

    A rule with a `fault` can't be read, and allows nothing.
    """

    peers: tuple[PolicyPeer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()
    fault: str = ""


@frozen
class NetworkPolicy(ObjectView):
    """A policy. `ingress` and `egress` are None when policyTypes doesn't list that direction.

    With a `fault` the selector of its pods can't be read in full; `pods` is what remains of it, which selects
    more pods. Of the annotations only those that mean something here are kept.
    """

    pods: LabelSelector = EVERYTHING
    ingress: tuple[PolicyRule, ...] | None = None
    egress: tuple[PolicyRule, ...] | None = None
    fault: str = field(default="")


def _policy(raw: Raw) -> NetworkPolicy:
    spec = raw.get("spec") or {}
    meta = metadata(raw)
    meta["labels"] = {}
    meta["annotations"] = {key: value for key, value in meta["annotations"].items() if key in _READ_ANNOTATIONS}
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    pods, fault = _subject(spec.get("podSelector"))
    return NetworkPolicy(
        **meta,
        pods=pods,
        ingress=_rules(spec.get("ingress"), "from") if "Ingress" in types else None,
        egress=_rules(spec.get("egress"), "to") if "Egress" in types else None,
        fault=fault,
    )


def _subject(raw: Raw | None) -> tuple[LabelSelector, str]:
    """The selector, and what is wrong with it. A requirement that can't be read is left out: more is isolated."""
    try:
        return LabelSelector.parse(raw), ""
    except (Reject, TypeError, AttributeError, KeyError) as error:
        fault = _words(error)
    if not isinstance(raw, Mapping):
        return EVERYTHING, fault
    found = EVERYTHING
    parts: list[Raw] = [
        {"matchLabels": raw.get("matchLabels")},
        *({"matchExpressions": [expression]} for expression in raw.get("matchExpressions") or ()),
    ]
    for part in parts:
        try:
            found = LabelSelector(found.requirements | LabelSelector.parse(part).requirements)
        except (Reject, TypeError, AttributeError, KeyError):
            continue
    return found, fault


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Reject) else "it is malformed"


def _read(read: Callable[[Any], T], raw: object, otherwise: Callable[[str], T]) -> T:
    try:
        return read(raw)
    except (Reject, TypeError, AttributeError, KeyError) as error:
        return otherwise(_words(error))


def _rules(raw: Any, peers: str) -> tuple[PolicyRule, ...]:
    if not isinstance(raw or [], list):
        return (PolicyRule(fault="it is malformed"),)
    return tuple(
        _read(lambda item: _rule(item, peers), item, lambda fault: PolicyRule(fault=fault)) for item in raw or ()
    )


def _rule(raw: Raw, peers: str) -> PolicyRule:
    return PolicyRule(
        tuple(_read(_peer, item, lambda fault: PolicyPeer(fault=fault)) for item in raw.get(peers) or ()),
        tuple(_port(item) for item in raw.get("ports") or ()),
    )


def _peer(raw: Raw) -> PolicyPeer:
    return PolicyPeer(
        pods=_optional(LabelSelector.parse, raw.get("podSelector")),
        namespaces=_optional(LabelSelector.parse, raw.get("namespaceSelector")),
        block=_optional(_block, raw.get("ipBlock")),
    )


def _optional(read: Callable[[Raw], T], raw: Raw | None) -> T | None:
    return None if raw is None else read(raw)


def _block(raw: Raw) -> IpBlock:
    return IpBlock(str(raw.get("cidr", "")), tuple(str(text) for text in raw.get("except") or ()))


def _port(raw: Raw) -> PolicyPort:
    return PolicyPort(str(raw.get("protocol") or "TCP"), raw.get("port"), raw.get("endPort"))


NETWORK_POLICIES: Kind[NetworkPolicy] = Kind(
    "network-policies",
    Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    _policy,
    indexes={"namespace": lambda policy: (policy.namespace,)},
)
