"""Every hook, exercised through a real `ovnkit run` with a plugin from outside; and the manual's page on hooks.

The sample plugin writes down each call; the tests read its journal. There must be a test per hook.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ovnkit.plugins.calls import hook_names
from ovnkit.plugins.hook_page import page
from ovnkit.status.unixhttp import read
from ovnkit.testing import ovsdb
from ovnkit.testing.cluster import ApiServer, OvnkitProcess, eventually
from ovnkit.testing.harness import make_server
from ovnkit.testing.ovsdb import OvsdbServer

ROOT = Path(__file__).resolve().parents[3]
OVNKIT = Path(sys.executable).parent / "ovnkit"

SAMPLE = '''
import json, os, threading, time
from pathlib import Path
import click
from attrs import frozen
from ovnkit.api.hooks import AclLogging, Hooks
from ovnkit.network.acl_logging import acl_logging
from ovnkit.api.errors import HostError
from ovnkit.api.hooks import Declaration, hookimpl
from ovnkit.api.host import LINKS
from ovnkit.api.items import Ask, Row
from ovnkit.api.kinds import Answers, Kind
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role

FOLDER = Path(os.environ.get("SAMPLE_FOLDER", "/nonexistent"))

def note(hook, **more):
    if FOLDER.is_dir():
        with (FOLDER / "journal").open("a") as journal:
            journal.write(json.dumps({"hook": hook, **more}) + "\\n")

@frozen
class Options:
    colour: str = "red"

@frozen
class Mood:
    key: str
    text: str

MOODS = Kind("moods", Answers(), lambda raw: Mood(**raw))

class Moods:
    kind = MOODS

    def __init__(self, tell):
        self.tell = tell

    def ask(self, keys):
        note("asked", keys=sorted(keys))
        threading.Timer(0.05, self.tell, [MOODS, [(key, Mood(key, "fine")) for key in (*keys, "unasked")]]).start()

    def drop(self, keys):
        note("dropped", keys=sorted(keys))

    def stop(self):
        note("answerer stopped")

class SamplePlugin:
    """A sample."""

    @hookimpl
    def ovnkit_options(self):
        return Options

    @hookimpl
    def ovnkit_declare(self, config):
        note("ovnkit_declare", colour=config.options("sample", Options).colour)
        return Declaration(default=True, kinds=(MOODS,))

    @hookimpl
    def ovnkit_answerers(self, config, scope, tell):
        return [Moods(tell)]

    @hookimpl
    def ovnkit_check_config(self, config):
        note("ovnkit_check_config", mtu=config.default.mtu)

    @hookimpl
    def ovnkit_acl_logging(self, world, namespace):
        return AclLogging(deny="alert") if namespace == "n1" else None

    @hookimpl
    def ovnkit_check_host(self, config, scope, facts):
        note("ovnkit_check_host", links=sorted(link.name for link in facts(LINKS)))
        if "SAMPLE_UNFIT" in os.environ:
            raise HostError("no wheels on this host", "put wheels on it")

    @hookimpl
    def ovnkit_renderers(self, config, scope, hooks):
        if "SAMPLE_FAILS" in os.environ:
            raise RuntimeError("not today")
        note("ovnkit_renderers", roles=sorted(role.value for role in scope.roles), node=scope.node)

        def render(world, key):
            options = dict(hooks.each(Hooks.ovnkit_port_options, world=world, pod=None))
            found = options["sample"]
            found = {**found, "severity": acl_logging(hooks, world, key).deny}
            if key == "n1":
                yield Ask(MOODS, found["colour"])
                mood = world.get(MOODS, found["colour"])
                found = {**found, "mood": mood.text if mood else "", "all": ",".join(sorted(world.keys(MOODS)))}
            yield Row("Address_Set", "set", {"name": "sample_" + key, "external_ids": found})

        return [
            Renderer("set", Role.ZONE, render, each=NODES),
            Renderer("elsewhere", Role.NODE, render, each=NODES),
        ]

    @hookimpl
    def ovnkit_plug_pod(self, request):
        return "plugged " + request

    @hookimpl
    def ovnkit_port_options(self, world):
        node = world.get(NODES, "n1")
        return {"colour": node.labels.get("colour", "none")}

    @hookimpl
    def ovnkit_cni_result(self, result):
        result["dns"] = {"domain": "sample"}

    @hookimpl
    def ovnkit_health(self, runtime):
        return {"mood": "bad"} if (FOLDER / "unwell").exists() else {}

    @hookimpl
    def ovnkit_metrics(self, runtime):
        nodes = Sample(1, {"colour": runtime.get(NODES, "n1").labels["colour"]})
        return [
            Metric("nodes", "Nodes of a colour.", MetricKind.GAUGE, (nodes,)),
            Metric("no-des", "Nodes.", MetricKind.GAUGE, ()),
        ]

    @hookimpl
    def ovnkit_explain(self, row, table, external_ids):
        return f"{row.name} of {row.key} in {table}, of colour {external_ids['colour']}"

    @hookimpl
    def ovnkit_commands(self):
        @click.command("sample-command")
        def command():
            click.echo("hello")
        return [command]

    @hookimpl
    def ovnkit_started(self, runtime):
        result = {}
        runtime.hooks.each(Hooks.ovnkit_cni_result, interface=None, result=result)
        plugged = runtime.hooks.first(Hooks.ovnkit_plug_pod, runtime=runtime, interface=None, request="it")
        runtime.call_soon(lambda: note("call_soon", thread=threading.current_thread().name))
        note("ovnkit_started", plugged=plugged, result=result, known=runtime.get(NODES, "n1").name,
             fresh=runtime.refresh(NODES, "n1").name, nobody=runtime.refresh(NODES, "nobody"))
        try:
            runtime.wait_for(NODES, "n1", 0.05, lambda node: False)
        except TimeoutError as error:
            note("timeout", error=str(error))
        node = runtime.wait_for(NODES, "n1", 20.0, lambda node: node and "colour" in node.labels)
        note("wait_for", colour=node.labels["colour"])

    @hookimpl
    def ovnkit_stopping(self, runtime):
        note("ovnkit_stopping", zone=runtime.scope.zone)

class BrokenPlugin:
    """Raises where it can."""

    @hookimpl
    def ovnkit_declare(self):
        return Declaration(default=True)

    @hookimpl
    def ovnkit_renderers(self):
        raise RuntimeError("no renderers today")

    @hookimpl
    def ovnkit_metrics(self):
        raise RuntimeError("no metrics today")

    @hookimpl
    def ovnkit_commands(self):
        raise RuntimeError("no commands today")

    @hookimpl
    def ovnkit_stopping(self):
        time.sleep(3600)
'''


def install(folder: Path) -> Path:
    """Put the sample plugins into a folder as an installed distribution is; the folder goes into PYTHONPATH."""
    (folder / "sample_plugin.py").write_text(textwrap.dedent(SAMPLE))
    info = folder / "sample-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 0.1\n")
    points = "sample = sample_plugin:SamplePlugin\nbroken = sample_plugin:BrokenPlugin\n"
    (info / "entry_points.txt").write_text(f"[ovnkit.plugins]\n{points}")
    return folder


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run of the process, from start to stop, and what was seen."""
    if not ovsdb.available():
        pytest.skip("needs ovsdb-server")
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "site").mkdir()
    environ = {"PYTHONPATH": str(install(folder / "site")), "SAMPLE_FOLDER": str(folder)}
    server = make_server(folder / "db")
    north = f"ovnnorth.address={server.endpoint}"
    options = ("--set", north, "--set", f"ovnsouth.address={server.endpoint}", "--set", "sample.colour=blue")
    seen = SimpleNamespace(environ=environ, folder=folder)
    with contextlib.ExitStack() as ending:
        ending.callback(server.stop)
        api = ending.enter_context(ApiServer(folder / "api"))
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        process = OvnkitProcess(
            folder / "run", api.kubeconfig, "--role", "zone", "--node-name", "n1", *options, environ=environ
        )
        with process:
            seen.ready = process.wait_ready()
            api.merge("/api/v1/nodes/n1", {"metadata": {"labels": {"colour": "green"}}})
            seen.sets = eventually(lambda: _sets(server, "green"))
            (folder / "unwell").touch()
            seen.unwell = process.wait(lambda state: not state["ready"])
            (folder / "unwell").unlink()
            process.wait_ready()
            seen.metrics = eventually(lambda: _scrape(process))
            seen.left_out = process.logged("metric is left out")
            seen.explained = _command(environ, "explain", "sample_n1", "--set", north, "--output", "json").stdout
            eventually(lambda: "wait_for" in (folder / "journal").read_text())
            begun = time.monotonic()
            seen.exit_code = process.stop()
            seen.stop_seconds = time.monotonic() - begun
    seen.journal = [json.loads(line) for line in (folder / "journal").read_text().splitlines()]
    return seen


def test_a_plugin_that_fails_at_start_keeps_its_rows_until_it_is_disabled(
    tmp_path: Path, ovn_databases: OvsdbServer
) -> None:
    (tmp_path / "site").mkdir()
    environ = {"PYTHONPATH": str(install(tmp_path / "site"))}
    server = ovn_databases

    def names_after_a_run(*more: Any, **environ_more: Any) -> Any:
        arguments = ("--role", "zone", "--node-name", "n1", "--set", f"ovnnorth.address={server.endpoint}", *more)
        south = ("--set", f"ovnsouth.address={server.endpoint}")
        process = OvnkitProcess(
            tmp_path / "run", api.kubeconfig, *arguments, *south, environ={**environ, **environ_more}
        )
        with process:
            process.wait_ready()
        return {row["name"] for row in server.rows("Address_Set")}

    with ApiServer(tmp_path / "api") as api:
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        assert "sample_n1" in names_after_a_run()
        assert "sample_n1" in names_after_a_run(SAMPLE_FAILS="yes")
        assert "sample_n1" not in names_after_a_run("--set", "plugins.disabled=sample", SAMPLE_FAILS="yes")


def _sets(server: Any, colour: Any) -> Any:
    found = {row["name"]: dict(row["external_ids"][1]) for row in server.rows("Address_Set")}
    mine = found.get("sample_n1", {})
    return found if (mine.get("colour"), mine.get("mood")) == (colour, "fine") else None


def _scrape(process: Any) -> Any:
    """Lines of /metrics, once the plugin that raises has been counted."""
    lines = read(process.socket, "/metrics", 30.0).decode().splitlines()
    failed = 'ovnkit_hook_failures_total{hook="ovnkit_metrics",plugin="broken"}'
    return lines if any(line.startswith(failed) for line in lines) else None


def _command(environ: Any, *words: Any) -> Any:
    import os

    return subprocess.run(
        [OVNKIT, *words], capture_output=True, text=True, timeout=60, env={**os.environ, **environ}
    )


def said(sample: SimpleNamespace, hook: Any) -> Any:
    return next(entry for entry in sample.journal if entry["hook"] == hook)


def test_there_is_a_test_per_hook() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_ovnkit_")}
    assert here == set(hook_names())


def test_the_manuals_page_is_the_specification() -> None:
    assert (ROOT / "docs" / "hooks.md").read_text() == page(), "run: ovnkit docs hooks > docs/hooks.md"


def test_ovnkit_options(sample: SimpleNamespace) -> None:
    shown = _command(sample.environ, "config", "show", "--output", "json", "--set", "sample.colour=pink").stdout
    assert json.loads(shown)["sections"]["sample"]["colour"]["value"] == "pink"


def test_ovnkit_declare(sample: SimpleNamespace) -> None:
    assert said(sample, "ovnkit_declare")["colour"] == "blue"


def test_ovnkit_check_config(sample: SimpleNamespace) -> None:
    assert said(sample, "ovnkit_check_config")["mtu"] == 1400


def test_ovnkit_acl_logging(sample: SimpleNamespace) -> None:
    assert sample.sets["sample_n1"]["severity"] == "alert"


def test_ovnkit_check_host(sample: SimpleNamespace) -> None:
    assert "lo" in said(sample, "ovnkit_check_host")["links"]
    environ = {**sample.environ, "SAMPLE_UNFIT": "1"}
    done = subprocess.run(
        [str(OVNKIT), "run", "--role", "zone", "--zone", "n1"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "ovnkit: no wheels on this host\novnkit: put wheels on it\n" in done.stderr


def test_ovnkit_renderers(sample: SimpleNamespace) -> None:
    entry = said(sample, "ovnkit_renderers")
    assert (entry["roles"], entry["node"]) == (["zone"], "n1")
    assert "sample_n1" in sample.sets


def test_ovnkit_answerers(sample: SimpleNamespace) -> None:
    assert sample.sets["sample_n1"]["mood"] == "fine", "an answer is part of the observed world"
    assert sample.sets["sample_n1"]["all"] == "green", "what nobody asks, or asks no more, has no view"
    asked = [entry["keys"] for entry in sample.journal if entry["hook"] == "asked"]
    assert asked == [["none"], ["green"]]
    assert said(sample, "dropped")["keys"] == ["none"]
    assert said(sample, "answerer stopped")


def test_ovnkit_plug_pod(sample: SimpleNamespace) -> None:
    assert said(sample, "ovnkit_started")["plugged"] == ["sample", "plugged it"]


def test_ovnkit_port_options(sample: SimpleNamespace) -> None:
    assert sample.sets["sample_n1"]["colour"] == "green", "what another plugin's hook reads is tracked"


def test_ovnkit_cni_result(sample: SimpleNamespace) -> None:
    assert said(sample, "ovnkit_started")["result"] == {"dns": {"domain": "sample"}}


def test_ovnkit_health(sample: SimpleNamespace) -> None:
    assert "plugin sample: mood: bad" in sample.unwell["not_ready"]


def test_ovnkit_metrics(sample: SimpleNamespace) -> None:
    assert 'ovnkit_sample_nodes{colour="green"} 1.0' in sample.metrics, "beside a plugin that raises"
    (line,) = sample.left_out
    assert (line["plugin"], line["metric"]) == ("sample", "no-des")
    assert line["error"] == "its name is not made of lower-case letters, digits and _"


def test_ovnkit_explain(sample: SimpleNamespace) -> None:
    (row,) = json.loads(sample.explained)
    assert row["sentence"] == "set of n1 in Address_Set, of colour green"
    assert row["owner"] == "sample/set/n1/set"
    assert row["object"] == "Node/n1"


def test_ovnkit_commands(sample: SimpleNamespace) -> None:
    done = _command(sample.environ, "sample-command")
    assert done.stdout == "hello\n"
    assert "no commands today" in done.stderr, "a broken plugin is a warning"


def test_ovnkit_started(sample: SimpleNamespace) -> None:
    entry = said(sample, "ovnkit_started")
    assert (entry["known"], entry["fresh"], entry["nobody"]) == ("n1", "n1", None)
    assert said(sample, "call_soon")["thread"] == "reconciler"
    assert "nodes n1: not as needed after 0.05 s" in said(sample, "timeout")["error"]
    assert said(sample, "wait_for")["colour"] == "green"


def test_ovnkit_stopping(sample: SimpleNamespace) -> None:
    assert said(sample, "ovnkit_stopping")["zone"] == "n1"
    assert sample.exit_code == 0
    assert sample.stop_seconds < 9, "a plugin that hangs costs its 5 s, not more"


def test_a_plugin_that_raises_at_start_is_quarantined_and_the_others_run(sample: SimpleNamespace) -> None:
    rows = {row["name"]: row for row in sample.ready["plugins"]}
    assert rows["broken"]["state"] == "quarantined"
    assert rows["broken"]["why"] == "ovnkit_renderers: RuntimeError: no renderers today"
    assert rows["sample"]["state"] == "enabled"
