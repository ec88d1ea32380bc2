"""What an attachment of a pod is, and how it is recorded on its port and on its link.

An attachment is one interface of one container on one network; each of the three alone would be half a key. The
Interface of a pod's port has the `external_ids` that upstream's tools know, the Port those of this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.text import parse_interface, parse_mac, parse_number
from ovnkit.network import pod as podnetwork
from ovnkit.network.pod import DEFAULT_NETWORK, PodNetwork

NETWORK = "ovn-kubernetes"
"""Name of the network in the configuration that the plugin writes; ports of former versions are on it."""

RECORD = "ovnkit.io/"
"""How the keys of a Port's external_ids begin that are written here."""
_INTERFACE = "eth0"
_ALIAS = "ovnkit sandbox "
_LONGEST_ALIAS = 255


@frozen
class Attachment:
    """Name of the CNI network, id of the container (sandbox), name of the interface in it."""

    network: str
    sandbox: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.ifname} of sandbox {self.sandbox} on network {self.network}"


def attachment_of(ids: Mapping[str, str]) -> Attachment | None:
    """The attachment that a port's `external_ids` name; None for a port that isn't a pod's.

    Former versions, and upstream, recorded the sandbox alone, or with the interface.
    """
    sandbox = ids.get("sandbox")
    if not sandbox:
        return None
    network = ids.get(f"{RECORD}network") or ids.get("k8s.ovn.org/network") or NETWORK
    return Attachment(network, sandbox, ids.get("pod-if-name") or _INTERFACE)


@frozen
class Plugged:
    """What a pod was plugged with. `mtu` and `route_mtu` in bytes; `netns` is a path, `netns_id` what it named."""

    network: PodNetwork
    mtu: int
    route_mtu: int
    netns: str
    netns_id: str

    def record(self, attachment: Attachment) -> Mapping[str, str]:
        """The `external_ids` of the Port."""
        values = {
            "network": attachment.network,
            "pod-networks": podnetwork.render(None, DEFAULT_NETWORK, self.network),
            "mtu": str(self.mtu),
            "route-mtu": str(self.route_mtu),
            "netns": self.netns,
            "netns-id": self.netns_id,
        }
        return {RECORD + key: value for key, value in values.items()}

    @classmethod
    def of(cls, ids: Mapping[str, str]) -> Plugged | None:
        """What a port's `external_ids` say; None for a port of a former version, or when they are nonsense."""
        try:
            network = podnetwork.parse(ids.get(f"{RECORD}pod-networks"))
            mtu, route_mtu = (parse_number(ids.get(RECORD + key), 0, 65535) for key in ("mtu", "route-mtu"))
        except (ValueError, Reject):
            return None
        if network is None:
            return None
        return cls(network, mtu, route_mtu, ids.get(f"{RECORD}netns", ""), ids.get(f"{RECORD}netns-id", ""))


def addresses_of(ids: Mapping[str, str]) -> PodNetwork | None:
    """MAC and addresses that a port of a former version was made for: gateways and routes it doesn't tell."""
    try:
        addresses = tuple(map(parse_interface, ids.get("ip_addresses", "").split(",")))
        return PodNetwork(addresses, parse_mac(ids.get("attached_mac")))
    except ValueError:
        return None


def netns_id(path: str) -> str:
    """What tells a network namespace from others while it exists; empty when there is none at the path."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


@frozen
class Mark:
    """The alias of the node's end of a pod's interface: which attachment it is of, and of which pod.

    Former versions wrote the sandbox alone; what doesn't fit is left out from the end.
    """

    sandbox: str
    ifname: str = ""
    network: str = ""
    uid: str = ""
    pod: str = ""

    @property
    def alias(self) -> str:
        """The text."""
        words = [self.sandbox, self.ifname, self.network, self.uid, self.pod]
        text = ""
        for word in words:
            more = f"{text} {word}" if text else _ALIAS + word
            if not word or len(more.encode()) > _LONGEST_ALIAS:
                break
            text = more
        return text

    @classmethod
    def of(cls, alias: object) -> Mark | None:
        """The mark in an alias; None when there is none."""
        if not isinstance(alias, str) or not alias.startswith(_ALIAS):
            return None
        words = alias[len(_ALIAS) :].split(" ")
        return cls(*words) if 1 <= len(words) <= 5 else None

    @property
    def attachment(self) -> Attachment:
        """The attachment; of a former version's link that of the cluster network."""
        return Attachment(self.network or NETWORK, self.sandbox, self.ifname or _INTERFACE)
