"""The conformance suite fails for plugins that break the rules: each rule catches its offender."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ovnkit.testing import ovsdb

pytestmark = pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")

PLUGIN = """
import itertools
from ovnkit.api.hooks import Declaration, hookimpl
from ovnkit.api.items import Annotation, Row
from ovnkit.api.models import NAMESPACES
from ovnkit.api.renderers import Renderer, Role

counter = itertools.count()
seen = []

def row(key, **columns):
    return Row("Address_Set", "set", {"name": "sample_" + key.replace("-", "_"), **columns})

def good(world, key):
    if world.get(NAMESPACES, key):
        yield row(key)

def counts(world, key):
    yield row(key, external_ids={"run": str(next(counter))})

def first_come(world, key):
    seen.append(key)
    yield row(key, external_ids={"before": seen[-2] if len(seen) > 1 else ""})

def annotates(world, key):
    yield row(key)
    yield Annotation(NAMESPACES, key, "sample/run", str(next(counter)))

def raises(world, key):
    yield row(key)
    raise RuntimeError("never mind")

def nothing(world, key):
    return ()

class Plugin:
    def __init__(self, render):
        self.render = render

    @hookimpl
    def ovnkit_declare(self):
        return Declaration()

    @hookimpl
    def ovnkit_renderers(self):
        return [Renderer("sample", Role.ZONE, self.render, each=NAMESPACES)]
"""

SUITE = """
from ovnkit.testing.conformance import ConformanceSuite

class TestSample(ConformanceSuite):
    plugin = {plugin!r}
    scenarios = {{"namespaces": '''
apiVersion: v1
kind: Namespace
metadata: {{name: one}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: two}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: three}}
'''}}
    families = ("ipv4",)
"""


def run(tmp_path: Path, render: str, *select: str) -> tuple[int, dict[str, str]]:
    """Exit code of pytest, and what became of each test of the suite."""
    body = textwrap.dedent(PLUGIN) + f"\ndef make():\n    return Plugin({render})\n"
    (tmp_path / "conforming.py").write_text(body)
    info = tmp_path / "conforming-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: conforming\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[ovnkit.plugins]\nconforming = conforming:make\n")
    test = tmp_path / "test_suite_of_a_sample.py"
    test.write_text(SUITE.format(plugin="conforming"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-v",
        "--rootdir",
        str(tmp_path),
        str(test),
    ]
    command += ["-k", " or ".join(select)] if select else []
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    (tmp_path / "out").write_text(done.stdout)
    results = re.findall(r"::(test_\w+)\S* (PASSED|FAILED|ERROR)", done.stdout)
    assert results, done.stdout + done.stderr
    return done.returncode, dict(results)


def test_a_good_plugin_passes(tmp_path: Path) -> None:
    code, results = run(tmp_path, "good")
    assert code == 0
    assert set(results.values()) == {"PASSED"}
    assert len(results) >= 9


@pytest.mark.parametrize(
    ("render", "caught_by"),
    [
        ("nothing", "test_writes_something"),
        ("counts", "test_restart_writes_nothing"),
        ("annotates", "test_restart_writes_nothing"),
        ("first_come", "test_order_does_not_matter"),
    ],
)
def test_an_offender_is_caught(tmp_path: Path, render: Any, caught_by: Any) -> None:
    code, results = run(tmp_path, render, caught_by)
    assert code == 1
    assert results == {caught_by: "FAILED"}


def test_a_renderer_that_raises_is_no_scenario(tmp_path: Path) -> None:
    code, results = run(tmp_path, "raises", "test_writes_something")
    assert code == 1
    assert results == {"test_writes_something": "ERROR"}
