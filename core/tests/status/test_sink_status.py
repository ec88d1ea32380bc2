"""What every sink tells of itself: `ovnkit status` makes a table of it, /metrics numbers."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ovnkit.api.host import HttpAnswer, TrackedPath
from ovnkit.api.renderers import Role
from ovnkit.cli.main import ovnkit
from ovnkit.cli.status import show
from ovnkit.config.load import Override, load_config
from ovnkit.engine.sink import Owner
from ovnkit.plugins.registry import Plugins
from ovnkit.process.run import Process
from ovnkit.process.scope import make_scope
from ovnkit.status.metrics import Metrics
from ovnkit.status.server import HealthServer, json_answer
from ovnkit.status.state import public, reasons_degraded

OWNER = Owner("test", "a", "k")
PATH = TrackedPath("UDP", ip_address("172.30.0.10"), 53, ip_address("10.0.0.1"), 5353)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """One with every role, and so with every sink; nothing of it has been started."""
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {}}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"})
    )
    loaded = load_config(None, overrides=[Override("kubernetes", "kubeconfig", str(kubeconfig), "test")])
    return Process(loaded, Plugins({}), make_scope(loaded.config, list(Role), "n1"))


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def test_every_sink_tells_numbers_a_truth_value_and_a_text(process: Process) -> None:
    sinks = process._state.read()["sinks"]
    assert {"kube", "nb", "ovs", "answers", "host", "nft", "flows", "uplinks", "http", "conntrack"} <= set(sinks)
    for name, status in sinks.items():
        assert is_number(status["owned"]), name
        assert is_number(status["pending"]), name
        assert is_number(status.get("held_back", 0)), name
        assert isinstance(status["connected"], bool), name
        assert isinstance(status["last_error"], str), name


def table(text: str) -> dict[str, list[str]]:
    """The cells of each row of a table that was printed, by the first."""
    bar = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    rows = [[cell.strip() for cell in line.strip(bar).split(bar)] for line in text.splitlines()]
    return {first: others for first, *others in rows}


def test_what_waits_is_shown_as_a_number(process: Process, capsys: pytest.CaptureFixture[str]) -> None:
    sinks = {sink.name: sink for sink in process._wiring.sinks}
    sinks["http"].want(OWNER, [HttpAnswer(30300, 200, ""), HttpAnswer(30301, 200, "")])
    sinks["conntrack"].want(OWNER, [PATH])
    sinks["conntrack"].want(OWNER, [])
    show(public(process._state.read(), {}))
    shown = table(capsys.readouterr().out)
    assert shown["http"] == ["yes", "0", "2", "0", "0", ""]
    assert shown["conntrack"] == ["yes", "0", "1", "0", "0", ""]


def state(**changes: Any) -> dict[str, Any]:
    plugins = [{"name": "pods", "state": "enabled", "why": ""}, {"name": "x", "state": "disabled", "why": "off"}]
    return {"plugins": plugins, "failures": [], "sinks": {"nb": {"held_back": 0, "waits": []}}, **changes}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        (
            {"plugins": [{"name": "pods", "state": "quarantined", "why": "20 renders failed"}]},
            ["plugin pods quarantined: 20 renders failed"],
        ),
        (
            {"failures": [{"what": w, "since": 1000.0} for w in ("failed", "rejected", "refused", "refused")]},
            [
                "renders that failed by a plugin's fault: 1",
                "objects that are wrong (their Events say why): 1",
                "renders whose items could not be applied: 2",
            ],
        ),
        ({"failures": [{"what": "waiting", "since": 950.0}]}, []),
        ({"failures": [{"what": "waiting", "since": 930.0}]}, ["renders that wait for something: 1"]),
        ({"sinks": {"nb": {"waits": [{"since": 950.0}]}}}, []),
        (
            {"sinks": {"nb": {"waits": [{"since": 930.0}], "held_back": 3}}},
            [
                "sink nb holds back 3 deletions (--allow-mass-delete lets them go)",
                "sink nb: items that wait for something: 1",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_wanted_and_not_in_effect_makes_a_process_degraded(changes: Any, reasons: list[str]) -> None:
    assert reasons_degraded(state(**changes), 1000.0) == reasons


@pytest.mark.parametrize(
    ("not_ready", "degraded", "word", "code"),
    [
        ([], [], "ready", 0),
        ([], ["objects that are wrong (their Events say why): 1"], "degraded", 4),
        (["stopping"], ["objects that are wrong (their Events say why): 1"], "not ready", 1),
    ],
)
def test_degraded_is_a_state_with_an_exit_code(
    process: Process, tmp_path: Path, not_ready: list[str], degraded: list[str], word: str, code: int
) -> None:
    wait = {"owner": "pods/port/ns/p", "item": "Logical_Switch_Port port", "wants": "row x", "since": 0.0}
    told = public(process._state.read(), {}) | {
        "not_ready": not_ready, "ready": not not_ready, "degraded": degraded,
        "failures": [{"owner": "pods/port/ns/:fire:", "what": "rejected", "message": "[red]", "since": 86400.0}],
    }  # fmt: skip
    told["sinks"]["nb"] |= {"waiting": 2, "waits": [wait]}
    server = HealthServer({"/status": lambda: json_answer(told)})
    server.listen_unix(tmp_path / "ovnkit-node.sock")
    try:
        run = ["status", "--set", f"ovspaths.ovn-run-dir={tmp_path}"]
        result = CliRunner().invoke(ovnkit, run)
        as_json = CliRunner().invoke(ovnkit, [*run, "--output", "json"])
    finally:
        server.stop()
    assert (result.exit_code, as_json.exit_code) == (code, code)
    lines = result.stdout.splitlines()
    assert lines[0].endswith(f": {word}")
    assert [line[4:] for line in lines if line.startswith("  - ")] == [*not_ready, *degraded]
    shown = table(result.stdout)
    assert shown["pods/port/ns/p"] == ["Logical_Switch_Port port", "row x", "1970-01-01T00:00:00Z"]
    assert shown["pods/port/ns/:fire:"] == ["rejected", "[red]", "1970-01-02T00:00:00Z"]
    assert "  and 1 more wait" in lines


def test_metrics_of_every_sink(process: Process) -> None:
    lines = Metrics(process._state.read, tuple).answer().body.decode().splitlines()
    metrics = dict(line.rsplit(" ", 1) for line in lines)
    for name in process._state.read()["sinks"]:
        assert f'ovnkit_sink_owned{{sink="{name}"}}' in metrics
        assert f'ovnkit_sink_pending{{sink="{name}"}}' in metrics
    assert metrics['ovnkit_transaction_errors_total{db="nb"}'] == "0.0"
    assert metrics['ovnkit_sink_connected{sink="answers"}'] == "1.0"
