"""`ovnkit run` as a process, on a real API server and real databases."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ovnkit.testing import ovsdb
from ovnkit.testing.cluster import ApiServer, OvnkitProcess, eventually
from ovnkit.testing.harness import content, difference
from ovnkit.testing.ovsdb import OvsdbServer

pytestmark = pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")

# Long enough for a busy machine to restart an API server in.
QUICK_LEASE = (
    "--set", "clustermgrha.election-lease-duration=15",
    "--set", "clustermgrha.election-renew-deadline=12",
    "--set", "clustermgrha.election-retry-period=1",
)  # fmt: skip


@pytest.fixture
def api(tmp_path: Path) -> Any:
    with ApiServer(tmp_path / "api") as server:
        for name in ("ovn-kubernetes", "default"):
            try:
                server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            except RuntimeError as error:
                if "409" not in str(error):
                    raise
        for name in ("n1", "n2"):
            server.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        yield server


def databases(server: OvsdbServer) -> tuple[str, ...]:
    return ("--set", f"ovnnorth.address={server.endpoint}", "--set", f"ovnsouth.address={server.endpoint}")


def ovnkit(
    folder: Path, api: ApiServer, server: OvsdbServer, *more: str, roles: Any = ("cluster", "zone")
) -> OvnkitProcess:
    named = [word for role in roles for word in ("--role", role)]
    arguments = (*named, "--node-name", "n1", *databases(server), *QUICK_LEASE, *more)
    return OvnkitProcess(folder, api.kubeconfig, *arguments)


def test_runs_restarts_without_writing_and_stops(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        state = process.wait_ready()
        assert state["leases"]["cluster"]["leading"]
        assert "ovn_cluster_router" in {row["name"] for row in ovn_databases.rows("Logical_Router")}
        assert "k8s.ovn.org/node-subnets" in api.annotations("/api/v1/nodes/n2")
        written = content(ovn_databases)
        assert process.stop() == 0
    assert difference(written, content(ovn_databases)) == [], "stopping leaves everything as it is"
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        state = process.wait_ready()
        writes = {name: sink.get("transactions", sink.get("patches")) for name, sink in state["sinks"].items()}
        assert {name: number for name, number in writes.items() if number is not None} == {
            "kube": 0, "nb": 0, "sb": 0
        }  # fmt: skip
        assert process.stop(signal.SIGINT) == 0


def test_what_a_disabled_plugin_wrote_to_objects_goes_with_the_next_start(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    def ours() -> set[str]:
        names = set(api.annotations("/api/v1/nodes/n1")) | set(api.annotations("/api/v1/nodes/n2"))
        return {name for name in names if name.startswith("k8s.ovn.org/")}

    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        process.wait_ready()
        assert {"k8s.ovn.org/node-id", "k8s.ovn.org/node-subnets"} <= ours()
        managed = api.request("GET", "/api/v1/nodes/n1")["metadata"]["managedFields"]
        assert "ovnkit/topology/cluster" in {entry["manager"] for entry in managed}
        assert process.stop() == 0
    mine = {"metadata": {"annotations": {"k8s.ovn.org/node-primary-ifaddr": "mine", "note": "mine"}}}
    api.request("PATCH", "/api/v1/nodes/n1", mine, "application/merge-patch+json")
    nobody = ("--set", "plugins.disabled=topology")
    with ovnkit(tmp_path / "a", api, ovn_databases, *nobody) as process:
        process.wait_ready()
        eventually(lambda: ours() == {"k8s.ovn.org/node-primary-ifaddr"})
        assert api.annotations("/api/v1/nodes/n1")["note"] == "mine"
        assert process.logged("leftover removed")
        assert process.stop() == 0
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        process.wait_ready()
        assert {"k8s.ovn.org/node-id", "k8s.ovn.org/node-subnets"} <= ours()


def test_a_missing_database_is_waited_for(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    ovn_databases.stop()
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        kinds = {"nodes", "pods", "namespaces"}
        state = process.wait(lambda state: kinds.isdisjoint(state["unlisted"]))
        assert not state["ready"]
        assert "database nb doesn't answer" in state["not_ready"]
        ovn_databases.start()
        process.wait_ready()
        assert process.stop() == 0


def test_a_missing_api_server_is_waited_for(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    api.stop()
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        state = process.wait(lambda state: not state["waiting_for_databases"])
        assert "nodes have not been listed yet" in state["not_ready"]
        api.start()
        process.wait_ready()


def test_database_and_api_server_killed_and_back(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        process.wait_ready()
        ovn_databases.kill()
        api.stop()
        process.wait(lambda state: not state["ready"])
        api.start()
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}})
        ovn_databases.start()
        process.wait_ready()
        eventually(lambda: "tstor-n3" in {row["name"] for row in ovn_databases.rows("Logical_Switch_Port")})


def test_standby_writes_nothing_and_takes_over(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    leader = ovnkit(tmp_path / "a", api, ovn_databases, "--identity", "a", roles=("cluster",))
    standby = ovnkit(tmp_path / "b", api, ovn_databases, "--identity", "b", roles=("cluster",))
    with leader, standby:
        leader.wait_ready(), standby.wait_ready()
        eventually(lambda: any(one.status()["leases"]["cluster"]["leading"] for one in (leader, standby)))
        if standby.status()["leases"]["cluster"]["leading"]:
            leader, standby = standby, leader
        second = standby.status()
        assert leader.status()["leases"]["cluster"]["leading"]
        assert not second["leases"]["cluster"]["leading"]
        assert second["sinks"]["kube"]["patches"] == 0
        eventually(lambda: "k8s.ovn.org/node-id" in api.annotations("/api/v1/nodes/n2"))
        assert leader.stop() == 0
        standby.wait(lambda state: state["leases"]["cluster"]["leading"])
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}})
        eventually(lambda: "k8s.ovn.org/node-id" in api.annotations("/api/v1/nodes/n3"))


def test_losing_the_lease_ends_the_process_with_code_3(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    with ovnkit(tmp_path / "a", api, ovn_databases, roles=("cluster",)) as process:
        process.wait(lambda state: state["leases"].get("cluster", {}).get("leading"))
        api.stop()
        assert process.wait_ended() == 3
        assert process.logged("lost the lease, stopping")


def test_central_zone_elects_a_leader(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    central = ("--set", "default.zone-mode=central")
    one = ovnkit(tmp_path / "a", api, ovn_databases, *central, "--identity", "a", roles=("zone",))
    other = ovnkit(tmp_path / "b", api, ovn_databases, *central, "--identity", "b", roles=("zone",))
    with one, other:
        states = [one.wait_ready(), other.wait_ready()]
        assert [state["zone"] for state in states] == ["global", "global"]
        eventually(
            lambda: one.status()["leases"]["zone"]["leading"] != other.status()["leases"]["zone"]["leading"]
        )
        lease = api.request("GET", "/apis/coordination.k8s.io/v1/namespaces/ovn-kubernetes/leases")["items"]
        assert [item["metadata"]["name"] for item in lease] == ["ovn-kubernetes-master-global"]


def test_two_processes_with_one_role_on_one_node(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    with ovnkit(tmp_path / "a", api, ovn_databases) as first, ovnkit(tmp_path / "a", api, ovn_databases) as second:
        ended = eventually(lambda: first if not first.running else second if not second.running else None)
        assert ended.wait_ended() == 1
        assert "another ovnkit with these roles runs on this node" in ended.log_tail()


def test_http_endpoints(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    with ovnkit(tmp_path / "a", api, ovn_databases, "--set", "metrics.bind-address=127.0.0.1:19411") as process:
        process.wait_ready()

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:19411{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        assert get("/healthz")[0] == 200
        assert get("/readyz")[0] == 200
        assert get("/nothing")[0] == 404
        _, metrics = get("/metrics")
        lines = metrics.splitlines()
        assert "ovnkube_clustermanager_leader 1.0" in lines
        assert 'ovnkube_clustermanager_allocated_v4_host_subnets{network_name="default"} 2.0' in lines
        assert 'ovnkit_sink_connected{sink="nb"} 1.0' in lines
        assert any(line.startswith('ovnkit_renders_total{plugin="topology"') for line in lines)
        assert any(line.startswith("ovnkube_controller_ready_duration_seconds ") for line in lines)
        ovn_databases.kill()
        eventually(lambda: get("/readyz")[0] == 503)
        assert "sink nb is not connected" in get("/readyz")[1]
        assert get("/healthz")[0] == 200, "a lost database is no reason to be killed"


def test_status_and_explain_commands(tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        executable = Path(sys.executable).parent / "ovnkit"
        return subprocess.run([executable, *words], capture_output=True, text=True, timeout=60)

    with ovnkit(tmp_path / "a", api, ovn_databases) as process:
        process.wait_ready()
        shown = command("status", "--socket", str(process.socket))
        assert shown.returncode == 0, shown.stderr
        assert "cluster+zone, node n1, zone n1: ready" in shown.stdout
        told = command("explain", "ovn_cluster_router", "--set", f"ovnnorth.address={ovn_databases.endpoint}")
        assert told.returncode == 0, told.stderr
        assert "topology/" in told.stdout
        missing = command("explain", "no-such-row", "--set", f"ovnnorth.address={ovn_databases.endpoint}")
        assert missing.returncode == 1
        assert "no row 'no-such-row' in nb" in missing.stderr


def test_a_signal_in_the_very_moment_of_a_log_line_stops_it_too(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "ovnkit"), "run", "--role", "cluster"]
    settings = ("kubernetes.apiserver=http://127.0.0.1:1", f"ovspaths.ovn-run-dir={tmp_path}")
    flags = [word for setting in settings for word in ("--set", setting)]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any('"event": "starting"' in line for line in process.stderr)
            process.terminate()
            process.communicate(timeout=30)
            assert process.returncode == 0
        finally:
            process.kill()
