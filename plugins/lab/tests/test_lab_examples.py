"""The examples: each can be read, is described, and does what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ovnkit_lab import promises
from ovnkit_lab.connections import Connection, Outcome
from ovnkit_lab.example import ALL, DEFAULT, names, read
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import LabError, LabSpec
from ovnkit_lab.progress import Reporter
from ovnkit_lab.settings import read_user_config
from ovnkit_lab.testing import ovnkit_lab

ROOT = Path(__file__).parents[3]
HOSTS = {"node1", "node2", "control", "external"}


def objects(folder: Path) -> set[str]:
    """`Kind namespace/name` of what an example applies; what workloads make is named by the workload."""
    documents = [item for path in folder.glob("*.yaml") for item in yaml.safe_load_all(path.read_text())]
    flat = [item for document in documents for item in document.get("items", [document])]
    return {f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}" for item in flat}


@pytest.mark.parametrize("name", names())
def test_an_example_belongs_to_a_plugin_and_is_described(name: str) -> None:
    assert f"(../../examples/{name}/README.md)" in (ROOT / "plugins" / name / "README.md").read_text()
    text = (ALL / name / "README.md").read_text()
    assert text.startswith(f"# {name}: ")
    assert ("`ovnkit lab demo`" if name == DEFAULT else f"`ovnkit lab demo --example {name}`") in text
    assert f"| [{name}]({name}/README.md) |" in (ALL / "README.md").read_text()
    assert {path.suffix for path in (ALL / name).iterdir()} <= {".yaml", ".toml", ".md"}


@pytest.mark.parametrize("name", names())
def test_what_an_example_expects_is_about_its_own_objects(name: str) -> None:
    example = read(ALL / name)
    made = objects(example.folder)
    read_user_config(example.config)
    assert bool(example.reach or example.show) == (name != DEFAULT), "the others promise something"
    places = {place for item in example.reach for place in (item.source, item.target)}
    for place in places | {item.on for item in example.show}:
        service = place.startswith("service ")
        kind = "Service" if service else "Pod"
        assert place in HOSTS or f"{kind} {place.removeprefix('service ')}" in made, place
    assert all(item.port or item.protocol == "icmp" for item in example.reach)


def test_all_folders_of_examples_are_examples() -> None:
    assert names() == sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[reech]]\n", "unknown key 'reech'; there are 'reach' and 'show'"),
        ('[[reach]]\nfrom = "a/b"\n', "'to'"),
        ('[[reach]]\nfrom = "a/b"\nto = "c/d"\nprotokoll = "udp"\n', "protokoll"),
        ('[[reach]]\nfrom = "a/b"\nto = "c/d"\nprotocol = "http"\n', "'http'"),
        ('[[show]]\non = "node1"\ncommand = ["true"]\nmatches = "("\n', "unterminated subpattern"),
        ("reach", "Expected '='"),
    ],
)
def test_what_is_wrong_in_a_file_of_promises_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text("{}")
    (tmp_path / "expect.toml").write_text(text)
    with pytest.raises(LabError, match=r"expect\.toml: ") as failure:
        read(tmp_path)
    assert told in str(failure.value)


def test_a_folder_without_manifests_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no manifests in"):
        read(tmp_path)


def test_of_an_unknown_example_is_told_what_was_probably_meant() -> None:
    done = ovnkit_lab("demo", "--example", "network-policy")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "there is no example 'network-policy'; did you mean 'network_policy'?"
    )


def test_promises_that_are_not_kept_are_counted_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("{}")
    (tmp_path / "expect.toml").write_text(
        '[[reach]]\nfrom = "node1"\nto = "node2"\nport = 80\n'
        '[[reach]]\nfrom = "node1"\nto = "external"\nport = 80\nreaches = false\n'
        '[[show]]\non = "node1"\ncommand = ["true"]\nmatches = "kept"\n'
        '[[show]]\non = "node2"\ncommand = ["true"]\nmatches = "broken"\n'
    )

    def outcomes(connections: list[Connection], attempts: int) -> list[Outcome]:
        return [Outcome(False, error="refused")] * len(connections)

    monkeypatch.setattr(promises, "try_all", outcomes)
    monkeypatch.setattr(promises, "_run", lambda _lab, _promise: "nothing\nis kept\nhere\n")
    monkeypatch.setattr(promises, "_DEADLINE", 0.0)
    lab = Lab(LabSpec("x", ("node1", "node2")))
    assert promises.check(lab, read(tmp_path), Reporter()).show() == (2, 4)
    shown = capsys.readouterr().out
    assert [line.split("│")[5:7] for line in shown.splitlines() if "refused" in line] == [
        [f" {'yes':15} ", " refused "], [f" {'no':15} ", " refused "]
    ]  # fmt: skip
    assert "│ is kept " in shown
    assert "no line matches broken; the last one is here" in shown


@pytest.mark.lab
@pytest.mark.parametrize("name", ["policy_logging", "services"])
def test_an_example_keeps_its_promises(name: str) -> None:
    """The plugins' own suites try what the others show; these two have every kind of promise."""
    lab = f"ex-{name.replace('_', '-')}"
    done = ovnkit_lab("demo", "--name", lab, "--example", name, "--ip-family", "dual")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shop/client" in done.stdout or "shop/frontend" in done.stdout
