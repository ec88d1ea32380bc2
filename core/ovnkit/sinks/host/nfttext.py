"""nftables: typed items as nft's language, and nft's JSON listing as the same canonical values.

Changes go in as nft's own language, not as JSON: nft 1.0.6 (Debian 12) takes a map with a concatenated value
for a set when it comes as JSON, and crashes on a dnat through one. Listings come out as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
)
from typing import Any

from attrs import field, frozen

from ovnkit.api.nft import (
    FAMILY,
    TABLE,
    AddressType,
    Atom,
    Counter,
    DnatChoice,
    DnatMap,
    Jump,
    Key,
    LinkName,
    Masquerade,
    Match,
    NftChain,
    NftSet,
    Protocol,
    RedirectMap,
    SetMark,
    SetName,
    Snat,
    Statement,
    Verdict,
)
from ovnkit.api.text import host_network, json_bytes, parse_address, parse_json, parse_network

WHOLE = f"{FAMILY} {TABLE}"
SIGNATURE = "ovnkit:"
"""Rules carry this and a hash of their text as comment: what nft lists is not what it was given."""
_CHUNK = 500

Parts = tuple[str, ...]
"""The parts of an element's key or value in canonical text."""

_PROTOCOLS = {protocol.name.lower().replace("icmpv6", "ipv6-icmp"): str(protocol.value) for protocol in Protocol}


def atom(value: Atom) -> str:
    """Canonical text of a value. A network of one address is that address, as nft lists it."""
    if isinstance(value, Protocol):
        return str(value.value)
    if isinstance(value, bool) or not isinstance(
        value, int | IPv4Address | IPv6Address | IPv4Network | IPv6Network
    ):
        raise TypeError(f"{value!r} is no nftables value")
    if isinstance(value, int) and not 0 <= value < 2**32:
        raise ValueError(f"{value} is out of range")
    if isinstance(value, IPv4Network | IPv6Network) and value.prefixlen == value.max_prefixlen:
        return str(value.network_address)
    return str(value)


def parts(values: Sequence[Atom]) -> Parts:
    """Canonical text of a key or value."""
    return tuple(atom(value) for value in values)


def collapse(keys: Iterable[Parts]) -> frozenset[Parts]:
    """The keys of an interval set without overlaps, which nft refuses. What is no network stays as it is."""
    found: set[Parts] = set()
    networks = []
    for key in keys:
        try:
            text = key[0]
            networks.append(parse_network(text) if "/" in text else host_network(parse_address(text)))
        except ValueError:
            found.add(key)
    v4 = [network for network in networks if isinstance(network, IPv4Network)]
    v6 = [network for network in networks if isinstance(network, IPv6Network)]
    found |= {(atom(network),) for network in collapse_addresses(v4)}
    found |= {(atom(network),) for network in collapse_addresses(v6)}
    return frozenset(found)


# -- rules ----------------------------------------------------------------------------------------------------


def _key(key: Key) -> str:
    return " . ".join(selector.value for selector in key)


def _right(right: Atom | LinkName | AddressType | SetName) -> str:
    if isinstance(right, LinkName):
        return f'"{right.name}"'
    if isinstance(right, AddressType):
        return right.value
    return f"@{right.name}" if isinstance(right, SetName) else atom(right)


def statement(item: Statement) -> str:
    """A statement in nft's language."""
    if isinstance(item, Match):
        return f"{_key(item.key)} {'!= ' if item.negate else ''}{_right(item.right)}"
    if isinstance(item, Verdict):
        return item.value
    if isinstance(item, Jump):
        return f"jump {item.chain}"
    if isinstance(item, Snat):
        return f"snat {'ip' if item.to.version == 4 else 'ip6'} to {item.to}"
    if isinstance(item, DnatMap):
        return f"dnat {'ip' if item.family == 4 else 'ip6'} addr . port to {_key(item.key)} map @{item.map}"
    if isinstance(item, DnatChoice):
        return _dnat_choice(item)
    if isinstance(item, RedirectMap):
        return f"redirect to :{_key(item.key)} map @{item.map}"
    if isinstance(item, SetMark):
        return f"meta mark set {atom(item.mark)}"
    return {Masquerade: "masquerade", Counter: "counter"}[type(item)]


def _dnat_choice(item: DnatChoice) -> str:
    family = "ip" if item.targets[0][0].version == 4 else "ip6"
    choice = f"jhash {family} saddr" if item.by_source else "numgen random"
    targets = ", ".join(f"{n} : {atom(address)} . {atom(port)}" for n, (address, port) in enumerate(item.targets))
    return f"dnat {family} addr . port to {choice} mod {len(item.targets)} map {{ {targets} }}"


def rule_text(statements: Sequence[Statement]) -> str:
    """A rule in nft's language, without comment."""
    return " ".join(statement(item) for item in statements)


def signature(text: str) -> str:
    """The comment of a rule with this text."""
    return SIGNATURE + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def references(statements: Sequence[Statement]) -> tuple[set[str], set[str]]:
    """The sets and the chains that a rule names."""
    sets, chains = set(), set()
    for item in statements:
        if isinstance(item, Jump):
            chains.add(item.chain)
        elif isinstance(item, DnatMap | RedirectMap):
            sets.add(item.map)
        elif isinstance(item, Match) and isinstance(item.right, SetName):
            sets.add(item.right.name)
    return sets, chains


def names_any(text: str, names: Collection[str]) -> bool:
    """Whether a rule's text names one of these sets."""
    return any(f"@{name}" in text.split() for name in names)


def is_jump(text: str) -> bool:
    """Whether a rule's text leads to another chain."""
    return "jump" in text.split()


# -- commands -------------------------------------------------------------------------------------------------


def add_set(item: NftSet) -> str:
    """Make a set or map."""
    kind = "map" if item.value else "set"
    types = " . ".join(part.value for part in item.key)
    if item.value:
        types += " : " + " . ".join(part.value for part in item.value)
    flags = " flags interval;" if item.interval else ""
    return f"add {kind} {WHOLE} {item.name} {{ type {types};{flags} }}"


def add_chain(item: NftChain) -> str:
    """Make a chain."""
    if item.type is None or item.hook is None:
        return f"add chain {WHOLE} {item.name}"
    hook = f"type {item.type.value} hook {item.hook.value} priority {int(item.priority)}; policy accept;"
    return f"add chain {WHOLE} {item.name} {{ {hook} }}"


def add_rule(chain: str, text: str) -> str:
    """Append a rule to a chain."""
    return f'add rule {WHOLE} {chain} {text} comment "{signature(text)}"'


def elements(verb: str, name: str, found: Sequence[tuple[Parts, Parts]]) -> Iterator[str]:
    """Add or delete elements, in commands of moderate length."""
    texts = [" . ".join(key) + (f" : {' . '.join(value)}" if value else "") for key, value in found]
    for start in range(0, len(texts), _CHUNK):
        yield f"{verb} element {WHOLE} {name} {{ {', '.join(texts[start : start + _CHUNK])} }}"


# -- listings -------------------------------------------------------------------------------------------------


@frozen
class Listed:
    """The table as it is: signatures and bodies of each chain's rules, chains, sets and their elements.

    A chain is described by (type, hook, priority, policy), a set by (key types, value types, interval).
    """

    rules: dict[str, list[tuple[str, bytes]]] = field(factory=dict)
    chains: dict[str, tuple[Any, ...]] = field(factory=dict)
    sets: dict[str, tuple[Parts, Parts, bool]] = field(factory=dict)
    elements: dict[str, dict[Parts, Parts]] = field(factory=dict)


def shape_of_chain(item: NftChain) -> tuple[Any, ...]:
    """The description a wanted chain has in a listing."""
    if item.type is None or item.hook is None:
        return (None, None, None, None)
    return (item.type.value, item.hook.value, item.priority, "accept")


def shape_of_set(item: NftSet) -> tuple[Parts, Parts, bool]:
    """The description a wanted set has in a listing."""
    return (tuple(part.value for part in item.key), tuple(part.value for part in item.value), item.interval)


def parse_listing(text: bytes) -> Listed:
    """The content of `nft -j list table`."""
    listed = Listed()
    for entry in parse_json(text)["nftables"]:
        for kind, raw in entry.items():
            if kind == "chain":
                shape = (raw.get("type"), raw.get("hook"), raw.get("prio"), raw.get("policy"))
                listed.chains[raw["name"]] = shape
                listed.rules.setdefault(raw["name"], [])
            elif kind == "rule":
                body = json_bytes([_without_counts(item) for item in raw["expr"]])
                listed.rules.setdefault(raw["chain"], []).append((raw.get("comment", ""), body))
            elif kind in ("set", "map"):
                listed.sets[raw["name"]] = _set_shape(raw)
                listed.elements[raw["name"]] = dict(_element(item) for item in raw.get("elem") or ())
    return listed


def _without_counts(expression: object) -> Any:
    return "counter" if isinstance(expression, dict) and "counter" in expression else expression


def _set_shape(raw: Mapping[str, Any]) -> tuple[Parts, Parts, bool]:
    return (_types(raw["type"]), _types(raw.get("map") or ()), "interval" in (raw.get("flags") or ()))


def _types(found: Any) -> Parts:
    # A concatenation is a list in a key, and " . " in a map's value.
    return tuple(found.split(" . ")) if isinstance(found, str) else tuple(found)


def _element(raw: object) -> tuple[Parts, Parts]:
    if isinstance(raw, list):
        return _listed_parts(raw[0]), _listed_parts(raw[1])
    return _listed_parts(raw), ()


def _listed_parts(raw: object) -> Parts:
    if isinstance(raw, dict) and "elem" in raw:
        raw = raw["elem"]["val"]
    if isinstance(raw, dict) and "concat" in raw:
        return tuple(_listed_atom(item) for item in raw["concat"])
    return (_listed_atom(raw),)


def _listed_atom(raw: object) -> str:
    if isinstance(raw, dict) and "prefix" in raw:
        return f"{raw['prefix']['addr']}/{raw['prefix']['len']}"
    if isinstance(raw, dict) and "range" in raw:
        return "-".join(_listed_atom(item) for item in raw["range"])
    if isinstance(raw, str):
        if raw in _PROTOCOLS:
            return _PROTOCOLS[raw]
        try:
            return str(ip_address(raw))
        except ValueError:
            return raw
    return str(raw)
