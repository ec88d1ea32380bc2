"""The pod's end and the node's end of a pod's interface, over netlink."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import frozen
from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netns import setns

from ovnkit.api.text import Interface
from ovnkit.network.pod import PodNetwork
from ovnkit_cni.attachments import Attachment, Mark
from ovnkit_cni.wire import CHECK_FAILED, INTERNAL, INVALID_ENVIRONMENT, CniError

_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
_QUEUE_LENGTH = 1000


@frozen
class Plug:
    """A pod interface to be made: whose it is, and how it is set up. `mtu` and `route_mtu` in bytes (0: none).

    `checksums` false turns transmit checksum offload off, which the userspace datapath needs.
    """

    mark: Mark
    netns: str
    network: PodNetwork
    mtu: int
    route_mtu: int = 0
    checksums: bool = True

    @property
    def ifname(self) -> str:
        """Name of the pod's end."""
        return self.mark.ifname

    @property
    def host_name(self) -> str:
        """Name of the node's end."""
        return host_name(self.mark.sandbox)


def host_name(sandbox: str) -> str:
    """Name of the node's end of a sandbox' interface: the first 15 characters of its id."""
    return sandbox[:15]


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Run the body with this thread in another network namespace; raises CniError when there is none."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path, home)
        try:
            yield
        finally:
            try:
                setns(home)
            except OSError:
                # A thread in the wrong namespace must not answer anything else.
                raise SystemExit("can't return to the node's network namespace") from None
    finally:
        os.close(home)


def _enter(path: str, home: int) -> None:
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CniError(INVALID_ENVIRONMENT, f"network namespace {path}: {error.strerror}") from None
    try:
        if os.path.samestat(os.fstat(there), os.fstat(home)):
            # A pod's interface would take over the node's default route.
            raise CniError(INVALID_ENVIRONMENT, f"network namespace {path} is the node's own")
        try:
            setns(there)
        except OSError as error:
            message = f"{path} is not a network namespace: {os.strerror(error.errno or 0)}"
            raise CniError(INVALID_ENVIRONMENT, message) from None
    finally:
        os.close(there)


def plug(wanted: Plug) -> str:
    """Make the interface; the MAC address of the node's end. What was made is gone again when it raises."""
    with IPRoute() as node:
        _remove(node, wanted.mark.attachment, known=False)
        index, mac = _make_pair(node, wanted)
        try:
            with inside(wanted.netns):
                _set_up(wanted)
            return mac
        except BaseException:
            node.link("del", index=index)
            raise


def _make_pair(node: IPRoute, wanted: Plug) -> tuple[int, str]:
    """The veth pair, the peer made in the pod's namespace right away; index and MAC address of the node's end."""
    with inside(wanted.netns):
        there = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = {
            "ifname": wanted.ifname, "net_ns_fd": there, "address": wanted.network.mac_address,
            "mtu": wanted.mtu, "txqlen": _QUEUE_LENGTH,
        }  # fmt: skip
        node.link("add", kind="veth", ifname=wanted.host_name, mtu=wanted.mtu, txqlen=_QUEUE_LENGTH, peer=peer)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            names = f"{wanted.host_name} on the node or {wanted.ifname} in {wanted.netns}"
            raise CniError(INTERNAL, f"interface {names} exists already") from None
        raise
    finally:
        os.close(there)
    link = _link(node, wanted.host_name)
    assert link is not None
    node.link("set", index=link["index"], state="up", ifalias=wanted.mark.alias)
    return link["index"], str(link.get("address"))


def _set_up(wanted: Plug) -> None:
    """Addresses, routes and the rest of the pod's end; this thread is in the pod's namespace."""
    network = wanted.network
    name = wanted.ifname
    if any(address.version == 6 for address in network.ip_addresses):
        for key, value in (("disable_ipv6", 0), ("accept_dad", 0), ("dad_transmits", 0), ("addr_gen_mode", 0)):
            _sysctl(name, key, value)
    if not wanted.checksums:
        _checksums_off(name)
    with IPRoute() as pod:
        index = _link(pod, name)["index"]
        pod.link("set", index=index, state="up")
        for address in network.ip_addresses:
            _add_address(pod, index, address)
        metrics = {"metrics": {"mtu": wanted.route_mtu}} if wanted.route_mtu else {}
        for destination, hop in network.routes:
            via = {"gateway": str(hop)} if hop is not None else {}
            pod.route(
                "replace", dst=str(destination), oif=index, family=_family(destination.version), **via, **metrics
            )
        for gateway in network.gateway_ips:
            everything = "0.0.0.0/0" if gateway.version == 4 else "::/0"
            pod.route("replace", dst=everything, gateway=str(gateway), oif=index, family=_family(gateway.version),
                      **metrics)  # fmt: skip


def _add_address(pod: IPRoute, index: int | None, address: Interface) -> None:
    more: dict[str, Any] = {}
    if address.version == 6:
        more["flags"] = _IFA_F_NODAD
    elif address.network.prefixlen < 31:
        more["broadcast"] = str(address.network.broadcast_address)
    pod.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **more)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _link(ip: IPRoute, name: str) -> Any:
    """The link of this name (not: alternative name); None when there is none."""
    try:
        link = next(iter(ip.link("get", ifname=name)), None)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return link if link is not None and link.get("ifname") == name else None


def _sysctl(name: str, key: str, value: int) -> None:
    Path("/proc/sys/net/ipv6/conf", name, key).write_text(str(value))


def _checksums_off(name: str) -> None:
    """`ethtool -K NAME tx off` for an interface of this thread's namespace."""
    ethtool = IoctlEthtool(name)
    try:
        ethtool.set_offload_flag("tx-checksumming", 0)
    finally:
        ethtool.close()


def unplug(attachment: Attachment, known: bool) -> None:
    """Remove an attachment's interface, and no other; fine when there is none.

    `known` says that Open vSwitch knows the node's end as this attachment's. Without that or our mark on the
    link it is left alone: a container's id is the runtime's choice, and may equal the name of another link.
    """
    with IPRoute() as node:
        _remove(node, attachment, known)


def is_there(attachment: Attachment) -> bool:
    """Whether the node's end of an attachment's interface exists."""
    with IPRoute() as node:
        return _is_of(_link(node, host_name(attachment.sandbox)), attachment, known=True)


def index_of(name: str) -> int:
    """The kernel's number of the node's link of this name, 0 when there is none; cheap."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def set_up(name: str) -> None:
    """Set a link of the node up."""
    with IPRoute() as node:
        node.link("set", index=index_of(name), state="up")


def marks() -> Iterator[Mark]:
    """The marks of the interfaces that there are."""
    with IPRoute() as node:
        found = [Mark.of(link.get("ifalias")) for link in node.get_links(kind="veth")]
    yield from (mark for mark in found if mark is not None)


def _is_of(link: Any, attachment: Attachment, known: bool) -> bool:
    if link is None:
        return False
    mark = Mark.of(link.get("ifalias"))
    if mark is not None:
        return mark.attachment == attachment
    info = link.get("linkinfo")
    return bool(known and info and info.get("kind") == "veth")


def _remove(node: IPRoute, attachment: Attachment, known: bool) -> None:
    link = _link(node, host_name(attachment.sandbox))
    if not _is_of(link, attachment, known):
        return
    try:
        node.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def check(wanted: Plug) -> None:
    """Raise CniError unless both ends are there, up, with MAC, addresses and routes as wanted."""
    with IPRoute() as node:
        _check_link(node, wanted.host_name, "the node")
    with inside(wanted.netns), IPRoute() as pod:
        index, mac = _check_link(pod, wanted.ifname, wanted.netns)
        if mac != wanted.network.mac_address:
            raise CniError(CHECK_FAILED, f"{wanted.ifname} has MAC {mac}, not {wanted.network.mac_address}")
        there = {
            f"{item.get('local') or item.get('address')}/{item['prefixlen']}" for item in pod.get_addr(index=index)
        }
        for address in wanted.network.ip_addresses:
            if str(address) not in there:
                raise CniError(CHECK_FAILED, f"{wanted.ifname} lacks address {address}")
        _check_routes(pod, index, wanted)


def _check_link(ip: IPRoute, name: str, where: str) -> tuple[int, str]:
    link = _link(ip, name)
    if link is None:
        raise CniError(CHECK_FAILED, f"interface {name} does not exist in {where}")
    if not link["flags"] & _IFF_UP:
        raise CniError(CHECK_FAILED, f"interface {name} in {where} is down")
    return link["index"], str(link.get("address"))


def _check_routes(pod: IPRoute, index: int, wanted: Plug) -> None:
    there = set()
    for address in wanted.network.ip_addresses:
        nothing = "0.0.0.0" if address.version == 4 else "::"
        for route in pod.get_routes(family=_family(address.version), oif=index):
            network = ip_network(f"{route.get('dst') or nothing}/{route['dst_len']}")
            there.add((str(network), route.get("gateway")))
    expected = [(str(destination), str(hop) if hop else None) for destination, hop in wanted.network.routes]
    expected += [("0.0.0.0/0" if hop.version == 4 else "::/0", str(hop)) for hop in wanted.network.gateway_ips]
    for destination, via in expected:
        if (destination, via) not in there:
            raise CniError(CHECK_FAILED, f"{wanted.ifname} lacks the route to {destination} via {via}")
