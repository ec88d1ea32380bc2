"""The OVN and Open vSwitch daemons of a lab's hosts."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from ovnkit.testing.daemons import Daemon, OvnInstall, northd, ovn_controller, ovsdb_server, vswitchd
from ovnkit_lab.layout import (
    BRIDGE,
    CONTROL,
    NB_PORT,
    SB_PORT,
    UPLINK,
    Files,
    LabError,
    LabSpec,
    bracketed,
)
from ovnkit_lab.namespaces import configure_host, disable_tx_checksums, run

_LINK_DEADLINE = 10.0


def central_daemons(spec: LabSpec, install: OvnInstall, host: str) -> dict[str, Daemon]:
    """NB, SB and northd of a zone, if they run on this host; empty otherwise."""
    if host != CONTROL and not spec.per_node_zones:
        return {}
    if host == CONTROL and spec.per_node_zones:
        return {}
    files = Files(spec.name)
    run_dir, logs, netns = files.ovn(host), files.log(host), spec.netns(host)
    daemons: dict[str, Daemon] = {}
    for db, port in (("nb", NB_PORT), ("sb", SB_PORT)):
        remotes = [f"punix:{run_dir / f'ovn{db}_db.sock'}"]
        if host == CONTROL:
            remotes += [f"ptcp:{port}:{bracketed(address)}" for address in spec.addresses(CONTROL)]
        daemons[db] = ovsdb_server(
            install, run_dir, {db: run_dir / f"ovn{db}_db.db"},
            name=f"ovn{db}_db", remotes=remotes, log_dir=logs, netns=netns,
        )  # fmt: skip
    sockets = {db: f"unix:{run_dir / f'ovn{db}_db.sock'}" for db in ("nb", "sb")}
    daemons["northd"] = northd(install, run_dir, nb=sockets["nb"], sb=sockets["sb"], log_dir=logs, netns=netns)
    return daemons


def node_daemons(spec: LabSpec, install: OvnInstall, node: str) -> dict[str, Daemon]:
    """The daemons of OVN and Open vSwitch on a node, in the order in which they start."""
    files = Files(spec.name)
    ovs, logs, netns = files.ovs(node), files.log(node), spec.netns(node)
    server = ovsdb_server(
        install, ovs, {"ovs": ovs / "conf.db"},
        name="ovsdb-server", remotes=[f"punix:{ovs / 'db.sock'}"], log_dir=logs, netns=netns,
    )  # fmt: skip
    return {
        "ovsdb": server,
        **central_daemons(spec, install, node),
        "ovs-vswitchd": vswitchd(install, ovs, log_dir=logs, netns=netns),
        "ovn-controller": ovn_controller(install, files.ovn(node), ovs_run_dir=ovs, log_dir=logs, netns=netns),
    }


def start_node(spec: LabSpec, install: OvnInstall, node: str) -> None:
    """Start a node's Open vSwitch and OVN; the external bridge gets the uplink and the node's addresses."""
    daemons = node_daemons(spec, install, node)
    daemons["ovsdb"].start()
    prepare_switch(spec, install, node)
    for name, daemon in daemons.items():
        daemon.launch()
        if name == "ovs-vswitchd":
            daemon.wait_ready()
            restore_host(spec, node)
    for daemon in daemons.values():
        daemon.wait_ready()


def prepare_switch(spec: LabSpec, install: OvnInstall, node: str) -> None:
    """Write what a real machine's Open vSwitch has before any network plugin runs: system id and external bridge.

    The bridge is there for the tunnels, which the userspace datapath sends through bridges only. Everything else
    in this database is left to the network plugin.
    """
    files = Files(spec.name)
    database = f"--db=unix:{files.ovs(node) / 'db.sock'}"

    def vsctl(*arguments: str) -> str:
        return install.run("ovs-vsctl", database, "--no-wait", *arguments)

    vsctl("init")
    if not vsctl("--if-exists", "get", "Open_vSwitch", ".", "external_ids:system-id").strip():
        version = ".".join(str(part) for part in install.ovs_version)
        vsctl(
            "set", "Open_vSwitch", ".", f"external_ids:system-id={uuid.uuid4()}", f"ovs_version={version}",
            f"external_ids:rundir={files.ovs(node)}", "external_ids:ovn-bridge-datapath-type=netdev",
            "system_type=lab", f"external_ids:ovnkit-lab={spec.name}",
        )  # fmt: skip
        if spec.bare_uplinks:
            return
        vsctl(
            "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, "datapath_type=netdev", "fail_mode=standalone",
            f'other_config:hwaddr="{spec.mac(node)}"', "--", "add-port", BRIDGE, UPLINK,
        )  # fmt: skip


def restore_host(spec: LabSpec, node: str) -> None:
    """Wait for the external bridge's own interface, and configure the node's addresses on it.

    Each start of ovs-vswitchd creates a new one. ovnkit itself looks after a bridge that it created.
    """
    if spec.bare_uplinks:
        return
    end = time.monotonic() + _LINK_DEADLINE
    netns = spec.netns(node)
    while True:
        try:
            run(["ip", "-n", netns, "link", "show", "dev", BRIDGE])
        except LabError as error:
            if time.monotonic() > end:
                raise LabError(f"{node}: ovs-vswitchd did not create {BRIDGE}: {error}") from None
            time.sleep(0.02)
            continue
        break
    disable_tx_checksums(netns, BRIDGE)
    configure_host(spec, node)


def write_tools(spec: LabSpec, install: OvnInstall) -> Path:
    """Write scripts that run this lab's `ovs-vsctl`, `ovn-nbctl` and so on; returns their directory."""
    directory = Files(spec.name).bin
    install.write_wrappers(directory)
    return directory


def tool_environment(spec: LabSpec, host: str) -> dict[str, str]:
    """Environment variables with which those tools reach a host's daemons."""
    files = Files(spec.name)
    ovn = str(files.ovn(host))
    env = {
        "OVNKIT_LAB": spec.name, "OVNKIT_CONFIG": str(files.config(host)),
        "OVN_RUNDIR": ovn, "OVN_LOGDIR": str(files.log(host)), "OVN_DBDIR": ovn,
        "OVS_RUNDIR": str(files.ovs(host)), "OVS_LOGDIR": str(files.log(host)),
    }  # fmt: skip
    if host in spec.nodes or not spec.per_node_zones:
        env |= {"OVN_NB_DB": spec.database(host, "nb"), "OVN_SB_DB": spec.database(host, "sb")}
    return env
