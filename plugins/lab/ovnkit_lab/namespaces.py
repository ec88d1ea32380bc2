"""Network namespaces, links and their settings: iproute2 in batches, pyroute2 for what a process does itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ovnkit.api.text import Interface
from ovnkit_lab.layout import BRIDGE, CONTROL, FABRIC, UPLINK, LabError, LabSpec

T = TypeVar("T")
NETNS_DIR = Path("/run/netns")
_KILL_DEADLINE = 10.0
_HOST_SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.all.forwarding": "1",
    # The kernel, too, sees what arrives on a port of a userspace bridge; it must not answer there.
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.default.arp_ignore": "1",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
POD_SETTINGS = {
    "net.ipv4.ping_group_range": "0 2147483647",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
_DROP_ON_UPLINK = f"""
table netdev ovnkit-lab {{
  chain uplink {{ type filter hook ingress device "{UPLINK}" priority 0; policy drop; }}
}}
"""
_DROP_UNLESS_LOCAL = f"""
table netdev ovnkit-lab {{
  chain uplink {{
    type filter hook ingress device "{UPLINK}" priority 0; policy drop;
    meta protocol arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    fib daddr . iif type local accept
  }}
}}
"""
"""The kernel gets only what is for addresses of the uplink: nothing once these have moved to a bridge."""


def run(command: Sequence[str], *, text: str | None = None) -> str:
    """Run a command and return its output; raises LabError with its error message."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
        words = next((line for line in said if not line.startswith("Command failed")), said[-1])
        raise LabError(f"{' '.join(command)[:160]}: {words}")
    return result.stdout


def ip_batch(netns: str, lines: Iterable[str]) -> None:
    """Run `ip` commands in a namespace (empty: this one), one per line; raises LabError."""
    where = ["-n", netns] if netns else []
    run(["ip", *where, "-batch", "-"], text="".join(f"{line}\n" for line in lines))


def enter(netns: str) -> None:
    """Move the calling thread, and it alone, into a namespace; raises OSError."""
    from pyroute2.netns import setns  # pyroute2 takes 0.15 s of processor time to import

    setns(netns, flags=0)


def inside(netns: str, function: Callable[[], T]) -> T:
    """The result of a function that is called inside a namespace, in a thread of its own."""

    def there() -> T:
        enter(netns)
        return function()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def disable_tx_checksums(netns: str, link: str) -> None:
    """Let the kernel compute the checksums of what is sent on a link, as `ethtool -K LINK tx off` does.

    The userspace datapath passes packets on as they are, so nobody may leave a checksum to the hardware.
    """
    from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool

    def disable() -> None:
        ethtool = IoctlEthtool(link)
        try:
            ethtool.set_offload_flag("tx-checksumming", 0)
        finally:
            ethtool.close()

    try:
        inside(netns, disable)
    except (OSError, EthtoolError) as error:
        raise LabError(
            f"switching transmit checksum offload of {link} off in {netns} failed: {type(error).__name__}"
        ) from error


def add_namespace(netns: str, settings: Mapping[str, str] = _HOST_SETTINGS) -> None:
    """Add a namespace with its loopback up and its kernel settings applied."""
    run(["ip", "netns", "add", netns])
    ip_batch(netns, ["link set lo up"])
    known = [f"{key}={value}" for key, value in settings.items() if Path("/proc/sys", *key.split(".")).exists()]
    run(["ip", "netns", "exec", netns, "sysctl", "-qw", *known])


def namespaces(prefix: str) -> list[str]:
    """Names of the namespaces that begin with `prefix`."""
    if not NETNS_DIR.is_dir():
        return []
    return sorted(path.name for path in NETNS_DIR.iterdir() if path.name.startswith(prefix))


def pids(netns: str) -> list[int]:
    """The processes in a namespace."""
    result = subprocess.run(["ip", "netns", "pids", netns], capture_output=True, text=True, check=False)
    return [int(word) for word in result.stdout.split()]


def kill_all(names: Iterable[str]) -> None:
    """Kill every process in these namespaces, and wait until none is left; raises LabError when that fails."""
    names = list(names)
    end = time.monotonic() + _KILL_DEADLINE
    while alive := {pid for name in names for pid in pids(name)} - {os.getpid()}:
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > end:
            raise LabError(f"these processes can't be killed: {sorted(alive)}")
        time.sleep(0.02)


def delete_namespace(netns: str) -> None:
    """Delete a namespace with everything in it; does nothing when it doesn't exist."""
    if not (NETNS_DIR / netns).exists():
        return
    result = subprocess.run(["ip", "netns", "del", netns], capture_output=True, text=True, check=False)
    if result.returncode and (NETNS_DIR / netns).exists():
        # An `ip netns add` that was interrupted leaves a file that is not a mount.
        (NETNS_DIR / netns).unlink(missing_ok=True)


def link_exists(name: str) -> bool:
    """Whether the machine itself (not a namespace) has a link of this name."""
    return Path("/sys/class/net", name).exists()


# -- the fabric ---------------------------------------------------------------------------------------------


def build_fabric(spec: LabSpec) -> None:
    """Create the fabric's bridge, a link to each host, and the machine's link to the control host."""
    fabric = spec.netns(FABRIC)
    ip_batch(fabric, [
        f"link add {FABRIC} address {spec.mac(FABRIC)} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
        f"link set {FABRIC} up",
        *(f"address add {address} dev {FABRIC}{_nodad(address)}" for address in spec.addresses(FABRIC)),
    ])  # fmt: skip
    for host in spec.hosts[1:]:
        _attach(spec, host)
    near, far = spec.api_link
    name, control = spec.api_link_name, spec.netns(CONTROL)
    ip_batch("", [
        f"link add {name} type veth peer name machine netns {control}",
        f"address add {near} dev {name}{_nodad(near)}", f"link set {name} up",
    ])  # fmt: skip
    ip_batch(control, [f"address add {far} dev machine{_nodad(far)}", "link set machine up"])


def _attach(spec: LabSpec, host: str) -> None:
    fabric, netns = spec.netns(FABRIC), spec.netns(host)
    ip_batch(fabric, [
        f"link add {host} type veth peer name {UPLINK} address {spec.mac(host)} netns {netns}",
        f"link set {host} master {FABRIC} up",
    ])  # fmt: skip
    ip_batch(netns, [f"link set {UPLINK} up"])
    disable_tx_checksums(netns, UPLINK)
    disable_tx_checksums(fabric, host)
    if host in spec.nodes:
        # Open vSwitch reads from a tap, which comes before this hook: only the kernel loses the packets.
        rules = _DROP_UNLESS_LOCAL if spec.bare_uplinks else _DROP_ON_UPLINK
        run(["ip", "netns", "exec", netns, "nft", "-f", "-"], text=rules)
    if host not in spec.nodes or spec.bare_uplinks:
        configure_host(spec, host, UPLINK)


def configure_host(spec: LabSpec, host: str, link: str = BRIDGE) -> None:
    """Configure a host's addresses and default routes on a link, as a machine's network manager does."""
    ip_batch(spec.netns(host), [
        f"link set {link} up",
        *(f"address replace {address} dev {link}{_nodad(address)}" for address in spec.addresses(host)),
        *(f"route replace default via {gateway.ip} dev {link}" for gateway in spec.gateways),
    ])  # fmt: skip


def set_link(spec: LabSpec, host: str, up: bool) -> None:
    """Connect or disconnect a host's cable at the fabric."""
    ip_batch(spec.netns(FABRIC), [f"link set {host} {'up' if up else 'down'}"])


def _nodad(address: Interface) -> str:
    return " nodad" if address.version == 6 else ""
