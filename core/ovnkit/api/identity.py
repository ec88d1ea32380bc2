"""Identity of what ovnkit writes: owner paths, chosen UUIDs, and the names OVN-Kubernetes' tools expect."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from attrs import field, frozen

__all__ = [
    "DERIVED_MACS",
    "OWNER_KEY",
    "PRIMARY_ID",
    "RowId",
    "hash_name",
    "link_local_from_mac",
    "mac_from_ip",
    "object_ids",
]

NAMESPACE = uuid.UUID("6f766e6b-6974-5000-8000-6f776e657273")
"""Namespace of all uuid5 row identities; it never changes, or every row would be written anew."""

OWNER_KEY = "ovnkit.io/owner"
"""external_ids key that holds the owner path of a row."""


_HASH = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)


def row_uuid(path: str) -> str:
    """The UUID of the row with this owner path: `uuid.uuid5(NAMESPACE, path)` as text, in a fifth of its time."""
    state = _HASH.copy()
    state.update(path.encode())
    digits = state.hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


@frozen
class RowId:
    """Owner path of a row: `plugin/renderer/key/name`.

    It is how a plugin names another plugin's row as data: `RowId("topology", "node", "n1", "switch")`.
    `key` is the renderer's key (`name`, `namespace/name` or empty), `name` is unique within one render.
    """

    plugin: str
    renderer: str
    key: str
    name: str
    uuid: str = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "uuid", row_uuid(self.path))

    @classmethod
    def parse(cls, path: str) -> RowId:
        """The identity with this owner path; parts that are missing are empty."""
        plugin, _, rest = path.partition("/")
        renderer, _, rest = rest.partition("/")
        key, _, name = rest.rpartition("/")
        return cls(plugin, renderer, key, name)

    @property
    def path(self) -> str:
        """The owner path as written to `external_ids`."""
        return f"{self.plugin}/{self.renderer}/{self.key}/{self.name}"


def hash_name(text: str) -> str:
    """OVN-safe name of a port group or an address set: `a` and the decimal FNV-1a-64 of `text`."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"a{value}"


DERIVED_MACS = "0a:58:"
"""How every MAC address begins that is derived from an address."""


@lru_cache(maxsize=65536)
def mac_from_ip(address: IPv4Address | IPv6Address) -> str:
    """MAC address that OVN-Kubernetes derives from an address: `0a:58:` and four bytes.

    IPv4: its octets. IPv6: the first four bytes of the SHA-256 of the textual address.
    """
    tail = address.packed if address.version == 4 else hashlib.sha256(str(address).encode()).digest()[:4]
    return DERIVED_MACS + ":".join(f"{byte:02x}" for byte in tail)


def link_local_from_mac(mac: str) -> IPv6Address:
    """IPv6 link-local address of a MAC address (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes(int(part, 16) for part in mac.split(":"))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(int.from_bytes(b"\xfe\x80" + bytes(6) + identifier))


CONTROLLER = "default-network-controller"
"""Owner of the default network's rows in the ids that OVN-Kubernetes' tools read."""


def object_ids(owner_type: str, *ids: tuple[str, str]) -> dict[str, str]:
    """The `external_ids` by which OVN-Kubernetes' tools know a row: owner, type, its ids, the primary id.

    `ids` are the type's own keys and values in the order of the primary id. A port group or address set is
    named `hash_name(object_ids(...)[PRIMARY_ID])`.
    """
    return {
        "k8s.ovn.org/owner-controller": CONTROLLER,
        "k8s.ovn.org/owner-type": owner_type,
        **dict(ids),
        PRIMARY_ID: ":".join((CONTROLLER, owner_type, *(value for _, value in ids))),
    }


def is_of_ovn_kubernetes(external_ids: Mapping[str, str]) -> bool:
    """Whether a row says of itself that OVN-Kubernetes wrote it (ports of pods do so in their own way)."""
    return external_ids.get("pod") == "true" or any(key.startswith("k8s.ovn.org/") for key in external_ids)


PRIMARY_ID = "k8s.ovn.org/id"
"""external_ids key of the primary id, from which hash names are made."""
