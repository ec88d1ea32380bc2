"""Bridges over network interfaces: made without cutting the host off, and undone the same way."""

from __future__ import annotations

import time
from pathlib import Path

import structlog
from attrs import asdict
from pyroute2 import IPRoute

from ovnkit.api.errors import OvnkitError
from ovnkit.api.host import MADE_FOR
from ovnkit.api.text import parse_json, print_json
from ovnkit.sinks.host.link_config import LinkConfig, clear, link_index, put, read_config
from ovnkit.sinks.host.vsctl import Vsctl

log = structlog.get_logger()

MADE_FOR_UPSTREAM = "bridge-uplink"
"""external_ids key by which OVN-Kubernetes knows a bridge that it has made."""

LINK_DEADLINE = 10.0
"""Seconds that ovs-vswitchd gets to make a bridge's own interface."""
_POLL = 0.02


class UplinkError(OvnkitError):
    """A bridge can't be made or undone; the text is the cause, in one line."""


class Uplinks:
    """Makes and undoes bridges. Every step may be repeated: what a crash left half done is completed."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = Path(run_dir)
        self._vsctl = Vsctl(run_dir)

    def made(self) -> dict[str, str]:
        """The bridges that ovnkit has made: the interface of each, by name. Raises VsctlError."""
        return {name: ids[MADE_FOR] for name, ids in self._vsctl.bridges().items() if MADE_FOR in ids}

    def make(self, bridge: str, uplink: str) -> None:
        """Make the bridge where it isn't there, and move to it what the interface has.

        The bridge gets the addresses before it gets the interface: from then on it hears what the interface
        heard, with the same MAC, so that no neighbour has to learn anything. Raises OvnkitError, NetlinkError.
        """
        with IPRoute() as ip:
            source = link_index(ip, uplink)
            if source is None:
                raise UplinkError(f"there is no network interface {uplink}")
            holder = self._vsctl.bridge_of(uplink)
            if holder not in ("", bridge):
                raise UplinkError(f"{uplink} is a port of bridge {holder}, it can't be one of {bridge}")
            there = self._vsctl.bridges().get(bridge)
            if there is None or MADE_FOR not in there:
                self._add_bridge(ip, bridge, uplink, source, there)
            target = self._await_link(ip, bridge)
            found = read_config(ip, source)
            if not found and not read_config(ip, target).addresses:
                found = self._remembered(bridge, target)
            if holder == "" or found:
                ip.link("set", index=target, state="up")
                put(ip, target, found)
                self._vsctl(
                    "--may-exist", "add-port", bridge, uplink, "--", "set", "Port", uplink,
                    "other_config:transient=true",
                )  # fmt: skip
                put(ip, target, found)  # once more: routes that had no way yet
                rest = read_config(ip, source)
                put(ip, target, rest)
                clear(ip, source, rest)
                log.info("addresses and routes moved", source=uplink, target=bridge, addresses=_texts(found))
            self._remember(bridge, target, read_config(ip, target))

    def undo(self, bridge: str, uplink: str) -> None:
        """Move everything back to the interface and remove the bridge. Raises OvnkitError, NetlinkError."""
        with IPRoute() as ip:
            target, source = link_index(ip, uplink), link_index(ip, bridge)
            if target is None:
                raise UplinkError(f"there is no network interface {uplink} to give the addresses of {bridge} to")
            found = read_config(ip, source) if source is not None else LinkConfig()
            ip.link("set", index=target, state="up")
            put(ip, target, found)
            self._vsctl("--if-exists", "del-br", bridge)
            put(ip, target, found)
            self._record(bridge).unlink(missing_ok=True)
            log.info("addresses and routes moved back", source=bridge, target=uplink, addresses=_texts(found))

    def _add_bridge(
        self, ip: IPRoute, bridge: str, uplink: str, source: int, there: dict[str, str] | None
    ) -> None:
        if there is not None and there.get(MADE_FOR_UPSTREAM) != uplink:
            raise UplinkError(f"there is a bridge {bridge} already, which was not made for {uplink}")
        mac = ip.get_links(source)[0].get_attr("IFLA_ADDRESS")
        datapath = self._vsctl("--if-exists", "get", "Open_vSwitch", ".", "external_ids:ovn-bridge-datapath-type")
        settings = [
            "fail_mode=standalone", f'other_config:hwaddr="{mac}"', f"external_ids:bridge-id={bridge}",
            f"external_ids:{MADE_FOR_UPSTREAM}={uplink}", f"external_ids:{MADE_FOR}={uplink}",
        ]  # fmt: skip
        if datapath.strip():
            settings.append(f"datapath_type={datapath.strip()}")
        self._vsctl("--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, *settings)
        log.info("bridge made", bridge=bridge, uplink=uplink, mac=mac)

    def _await_link(self, ip: IPRoute, name: str) -> int:
        end = time.monotonic() + LINK_DEADLINE
        while (index := link_index(ip, name)) is None:
            if time.monotonic() > end:
                raise UplinkError(f"ovs-vswitchd makes no interface {name}")
            time.sleep(_POLL)
        return index

    # -- what a bridge had: it goes with the bridge's interface when somebody deletes that ---------------------

    def _record(self, bridge: str) -> Path:
        """In the run directory, so that it ends with the machine's run: then the host configures itself."""
        return self._run_dir / f"ovnkit-{bridge}.json"

    def _remember(self, bridge: str, index: int, things: LinkConfig) -> None:
        text = print_json({"index": index, **asdict(things)})
        record = self._record(bridge)
        if record.exists() and record.read_text() == text:
            return
        partial = record.with_suffix(".new")
        partial.write_text(text)
        partial.rename(record)

    def _remembered(self, bridge: str, index: int) -> LinkConfig:
        """What the bridge had while its interface was another one; nothing when it is the same still."""
        try:
            found = parse_json(self._record(bridge).read_text())
            if found["index"] == index:
                return LinkConfig()
            return LinkConfig(tuple(found["addresses"]), tuple(found["routes"]))
        except (OSError, ValueError, KeyError, TypeError):
            return LinkConfig()


def _texts(things: LinkConfig) -> list[str]:
    return [f"{entry['address']}/{entry['prefixlen']}" for entry in things.addresses]
