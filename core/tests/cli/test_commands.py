"""The `ovnkit` command as a user meets it: output, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

OVNKIT = Path(sys.executable).parent / "ovnkit"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVNKIT_", "K8S_", "KUBE"))}
    return subprocess.run([OVNKIT, *arguments], env=env | environ, capture_output=True, text=True, timeout=60)


def failed(*arguments: str, code: int, **environ: str) -> str:
    done = run(*arguments, **environ)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("ovnkit: warning:", "{"))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ovnkit: ")
    return lines[0]


def test_version_is_quick() -> None:
    best = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("--version")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # processor time: the clock on the wall tells more of what else the machine does
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stdout.startswith("ovnkit ")
    assert best < 0.3


HEAVY = ("kubernetes", "urllib3", "requests", "dns", "pyroute2", "ovsdbapp", "prometheus_client", "uvicorn")
"""Libraries that take 0.1 s of processor time and more to import."""


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--version", set()),
        ("config show", set()),
        ("plugins", set()),
        ("privileges", set()),
        ("crds", set()),
        ("status", set()),
        ("explain ovn_cluster_router", set()),
        ("docs hooks", set()),
    ],
)
def test_a_command_imports_what_it_needs(command: str, needed: set[str]) -> None:
    code = (
        "import sys\nfrom ovnkit.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines()[-1] == str(sorted(needed))


def test_the_set_up_compiles_byte_code() -> None:
    root = Path(__file__).parents[3]
    assert "compileall -q core plugins bench" in (root / "scripts/setup-venv").read_text()


def test_help_teaches_with_examples() -> None:
    for command in ((), ("run",), ("config", "show"), ("plugins",), ("explain",), ("privileges",)):
        done = run(*command, "--help")
        assert done.returncode == 0
        assert "ovnkit " in done.stdout.partition("Usage:")[2].partition("\n")[2], f"no example in {command}"


def test_config_show_says_where_values_come_from(tmp_path: Path) -> None:
    file = tmp_path / "ovnkit.toml"
    file.write_text("[default]\nmtu = 1300\n[kubernetes]\ntoken = 'sesame'\n")
    arguments = ("config", "show", "--config", str(file), "--set", "default.zone=z", "--output", "json")
    shown = json.loads(run(*arguments, OVNKIT_GATEWAY__MODE="local").stdout)
    assert shown["sections"]["default"]["mtu"] == {"value": 1300, "origin": str(file)}
    assert shown["sections"]["default"]["zone"] == {"value": "z", "origin": "command line --set"}
    assert shown["sections"]["gateway"]["mode"]["origin"] == "environment OVNKIT_GATEWAY__MODE"
    assert shown["sections"]["default"]["cluster-subnets"]["value"] == ["10.128.0.0/14/23"]
    assert "sesame" not in json.dumps(shown)


def test_config_show_toml_can_be_used_as_the_file(tmp_path: Path) -> None:
    text = run("config", "show", "--output", "toml", "--set", "default.mtu=1300").stdout
    file = tmp_path / "again.toml"
    file.write_text(text)
    shown = json.loads(run("config", "show", "--config", str(file), "--output", "json").stdout)
    assert shown["sections"]["default"]["mtu"] == {"value": 1300, "origin": str(file)}


def test_config_table() -> None:
    assert "v4-join-subnet" in run("config", "show").stdout


@pytest.mark.parametrize("command", [("config", "show"), ("plugins",), ("run", "--role", "zone")])
def test_wrong_configuration_is_exit_code_2(tmp_path: Path, command: Any) -> None:
    file = tmp_path / "ovnkit.toml"
    file.write_text("[default]\nmtuu = 1300\n")
    line = failed(*command, "--config", str(file), code=2)
    assert line == f"ovnkit: {file}: unknown key 'mtuu' in section [default]; did you mean 'mtu'?"


@pytest.mark.parametrize("key", ["enabled", "disabled"])
@pytest.mark.parametrize("command", [("config", "show"), ("run", "--role", "cluster")])
def test_a_plugin_that_is_not_installed_is_refused(command: Any, key: Any) -> None:
    line = failed(*command, "--set", f"plugins.{key}=ghost", code=2)
    assert line == f"ovnkit: [plugins]: ghost: named in [plugins] {key}, but not installed"


def test_run_needs_a_node_name() -> None:
    assert "--node-name" in failed("run", "--role", "node", code=2)


def test_run_without_api_server_configuration_says_so(tmp_path: Path) -> None:
    line = failed("run", "--role", "cluster", "--kubeconfig", str(tmp_path / "none"), code=2)
    assert str(tmp_path / "none") in line


def test_plugins_json() -> None:
    rows = {row["name"]: row for row in json.loads(run("plugins", "--output", "json").stdout)}
    assert rows["topology"]["state"] == "enabled"
    assert rows["topology"]["distribution"] == "ovnkit"
    assert rows["pods"]["needs"] == ["topology"]


def test_plugins_shows_missing_and_disabled() -> None:
    done = run(
        "plugins", "--set", "plugins.enabled=ghost", "--set", "plugins.disabled=topology", "--output", "json"
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["ghost"]["state"] == "missing"
    assert rows["topology"]["state"] == "disabled"
    assert rows["pods"]["why"] == "needs topology, which is disabled"


WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def writes(*arguments: str) -> dict[tuple[str, str], str]:
    """What may be written, by namespace and resource, with the names where it is limited to them."""
    found = {}
    for document in yaml.safe_load_all(run("privileges", "--name", "net", *arguments).stdout):
        assert document["metadata"]["name"] == "net"
        namespace = document["metadata"].get("namespace", "")
        assert document["kind"] == ("Role" if namespace else "ClusterRole")
        for rule in document["rules"]:
            (resource,), verbs = rule["resources"], sorted(WRITES.intersection(rule["verbs"]))
            for verb in verbs:
                found[resource, verb] = ",".join(filter(None, (namespace, *rule.get("resourceNames", ()))))
    return found


EVENTS = {("events", "create"): "", ("events", "patch"): ""}


def leases(*names: str) -> dict[tuple[str, str], str]:
    return {("leases", "create"): "ovn-kubernetes", ("leases", "update"): ",".join(("ovn-kubernetes", *names))}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("--role", "node"), {("nodes/status", "patch"): ""}),
        (("--role", "zone"), {("pods/status", "patch"): "", ("egressfirewalls/status", "patch"): ""}),
        (
            ("--role", "zone", "--set", "default.zone-mode=central"),
            {
                ("pods/status", "patch"): "",
                ("egressfirewalls/status", "patch"): "",
                **leases("ovn-kubernetes-master-global"),
            },
        ),
        (
            ("--role", "cluster"),
            {
                ("nodes/status", "patch"): "",
                ("services/status", "patch"): "",
                ("egressfirewalls/status", "patch"): "",
                **leases("ovn-kubernetes-master"),
            },
        ),
        (
            ("--role", "cluster", "--set", "plugins.disabled=services,egress_firewall"),
            {("nodes/status", "patch"): "", **leases("ovn-kubernetes-master")},
        ),
    ],
)
def test_privileges_are_as_narrow_as_the_roles(
    arguments: tuple[str, ...], allowed: dict[tuple[str, str], str]
) -> None:
    assert writes(*arguments) == {**EVENTS, **allowed}


def test_every_role_may_read_what_the_plugins_watch() -> None:
    (role,) = yaml.safe_load_all(run("privileges", "--role", "node").stdout)
    reads = {rule["resources"][0] for rule in role["rules"] if {"list", "watch"} <= set(rule["verbs"])}
    assert reads == {
        "pods", "nodes", "namespaces", "services", "endpointslices", "networkpolicies", "egressfirewalls",
        "dnsnameresolvers",
    }  # fmt: skip


def test_status_without_a_process(tmp_path: Path) -> None:
    line = failed("status", "--set", f"ovspaths.ovn-run-dir={tmp_path}", code=1)
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("frobnicate", 2, "no such command 'frobnicate' (see ovnkit --help)"),
        ("stauts", 2, "no such command 'stauts'; did you mean 'status'? (see ovnkit --help)"),
        ("lab stauts", 2, "lab: no such command 'stauts'; did you mean 'status'? (see ovnkit lab --help)"),
        ("config shwo", 2, "config: no such command 'shwo'; did you mean 'show'? (see ovnkit config --help)"),
        ("status --ouput x", 2, "status: no such option '--ouput'; did you mean '--output'? "
                                "(see ovnkit status --help)"),
        ("run --role nod", 2, "run: invalid value for '--role': 'nod' is not one of 'cluster', 'zone', 'node' "
                              "(see ovnkit run --help)"),
        ("run", 2, "run: missing option '--role'. Choose from: cluster, zone, node (see ovnkit run --help)"),
        ("crds x", 2, "crds: got unexpected extra argument (x) (see ovnkit crds --help)"),
        ("explain", 2, "explain: name a ROW, or a --table (see ovnkit explain --help)"),
        ("config show --set default.mtu", 2, "--set default.mtu: write it as section.key=value"),
        ("config show --set plugins.disabled=servces", 2,
         "[plugins]: servces: named in [plugins] disabled, but not installed; did you mean 'services'?"),
        ("privileges --set plugins.enabled=servces", 2,
         "[plugins]: servces: named in [plugins] enabled, but not installed; did you mean 'services'?"),
        ("crds --set gatway.mode=x", 2, "command line --set: unknown section [gatway]; did you mean 'gateway'?"),
        ("status --socket /nowhere", 1, "/nowhere: No such file or directory"),
        ("lab status --name nosuch", 1, "there is no lab 'nosuch'; `ovnkit lab up --name nosuch` creates it"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_that_says_what_and_where(command: str, code: int, said: str) -> None:
    assert failed(*command.split(), code=code) == f"ovnkit: {said}"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status --output json --socket /nowhere", 1),
        ("status -o json --ouput", 2),
        ("config show --output=json --set default.mtuu=1", 2),
        ("lab status -ojson --name nosuch", 1),
    ],
)
def test_failures_are_json_too_where_json_was_asked_for(command: str, code: int) -> None:
    done = run(*command.split())
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] == code
    assert done.stderr == f"ovnkit: {told['error']}\n"
    assert json.loads(run("plugins", "--output", "json").stdout), "and nothing of it where all is well"


@pytest.mark.parametrize(
    "command", ["config show", "plugins -o json", "crds", "stauts", "stauts -o json", "--help"]
)
@pytest.mark.parametrize("output", ["closed", "full", "a closed pipe"])
def test_output_that_goes_nowhere_is_no_traceback(command: str, output: str) -> None:
    where = {"closed": ">&-", "full": ">/dev/full", "a closed pipe": "| true"}[output]
    shell = f"set -o pipefail; {OVNKIT} {command} {where}"
    done = subprocess.run(["bash", "-c", shell], stderr=subprocess.PIPE, text=True, timeout=60)
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert "Traceback" not in done.stderr
    if "stauts" in command:
        assert done.returncode == 2
    elif output == "full":
        assert (done.returncode, done.stderr) == (1, "ovnkit: No space left on device\n")


def test_a_program_that_is_missing_and_a_user_who_may_not_are_told(tmp_path: Path) -> None:
    done = run("lab", "up", "--name", "clitest", PATH=str(tmp_path))
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith(("ovnkit", "Traceback"))] == [
        "ovnkit: ip: command not found: install it, or add its folder to PATH"
    ]


@pytest.mark.parametrize(("given", "shown"), [("[print]", "[<built-in function print>]"), ("5", "5")])
def test_commands_that_are_none_are_a_warning_that_says_so(tmp_path: Path, given: str, shown: str) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ovnkit.plugins]\nacme = acme_commands:Plugin\n")
    (tmp_path / "acme_commands.py").write_text(
        "from ovnkit.api.hooks import hookimpl\n"
        f"class Plugin:\n    @hookimpl\n    def ovnkit_commands(self):\n        return {given}\n"
    )
    done = run("--help", PYTHONPATH=str(tmp_path))
    told = f"ovnkit: warning: plugin acme: ovnkit_commands: it must give commands of click, not {shown}"
    assert (done.returncode, done.stderr.splitlines()) == (0, [told])


def test_both_distributions_that_have_a_plugin_of_one_name_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        info = tmp_path / name / f"ovnkit_{name}-1.{len(name)}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ovnkit-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ovnkit.plugins]\ntwin = twin_{name}:Plugin\n")
        (tmp_path / name / f"twin_{name}.py").write_text("class Plugin:\n    pass\n")
    path = f"{tmp_path / 'one'}:{tmp_path / 'two'}"
    rows = {row["name"]: row for row in json.loads(run("plugins", "--output", "json", PYTHONPATH=path).stdout)}
    assert (rows["twin"]["state"], rows["twin"]["why"]) == (
        "failed",
        "several installed distributions have a plugin 'twin': "
        "ovnkit-one 1.0 (twin_one:Plugin), ovnkit-two 1.0 (twin_two:Plugin)",
    )


def test_a_wheel_has_all_that_the_commands_need(tmp_path: Path) -> None:
    """Byte code is pip's to make, when it installs one."""
    root = Path(__file__).parents[3]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    assert list((installed / "ovnkit/process/__pycache__").glob("run.*.pyc"))
    found = subprocess.run(
        [sys.executable, "-c", "from ovnkit_lab.example import ALL, names; print(ALL, *names())"],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    there = sorted(path.name for path in (root / "examples").iterdir() if path.is_dir())
    assert found.stdout.split() == [str(installed / "ovnkit_lab/examples"), *there], found.stderr
    assert (installed / "ovnkit_lab/examples/services/expect.toml").exists()


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
          "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search")  # fmt: skip
"""A user who may read everything (the checkout may be anywhere), and write nothing."""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("lab up --name clitest", "the lab must be run as root"),
        ("status", "no running ovnkit found in {dir} (needs root; --socket PATH names one elsewhere)"),
        ("run --role zone --zone z --kubeconfig {dir}/kubeconfig",
         "status socket {dir}/ovnkit-zone.sock: Permission denied"),
    ],
)  # fmt: skip
def test_who_is_not_root_is_told(tmp_path: Path, command: str, said: str) -> None:
    user = {"name": "u", "user": {}}
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    (tmp_path / "kubeconfig").write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"})
    )
    where = tmp_path / "run"
    where.mkdir()
    (where / "kubeconfig").write_text((tmp_path / "kubeconfig").read_text())
    words = command.format(dir=where).split()
    if words[0] != "lab":
        words += ["--set", f"ovspaths.ovn-run-dir={where}"]
    done = subprocess.run([*NOBODY, OVNKIT, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ovnkit: {said.format(dir=where)}"


def test_the_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        shell = {
            "_OVNKIT_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        return [line.partition(",")[2] for line in run(**shell).stdout.splitlines()]

    assert completed("ovnkit sta") == ["status"]
    assert completed("ovnkit lab no") == ["node", "node-down", "node-up"]
    assert completed("ovnkit status --ou") == ["--output"]


def test_nobody_reads_on(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{OVNKIT} config show | head -n 1"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
