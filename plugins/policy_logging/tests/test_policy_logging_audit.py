"""How lines get from ovn-controller's log to where they are wanted: following, rotation, syslog, outages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import Config, OvsPathsOptions
from ovnkit.api.log_follower import Follower
from ovnkit.api.metrics import MetricKind
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import scope
from ovnkit.testing.daemons import Daemon, locate, ovn_controller, ovsdb_server
from ovnkit_lab.testing import wait_until
from ovnkit_policy_logging.audit import AuditLog
from ovnkit_policy_logging.destination import AuditFile, AuditSyslog, Destination
from ovnkit_policy_logging.lines import AuditLine, audit_line
from ovnkit_policy_logging.options import PolicyLoggingOptions
from ovnkit_policy_logging.plugin import PolicyLoggingPlugin

BODY = (
    '|acl_log(ovn_pinctrl0)|INFO|name="NP:shop:Ingress", verdict=drop, severity=alert, direction=to-lport: '
    "tcp,nw_src=10.244.0.3,nw_dst=10.244.0.4,tp_src=40000,tp_dst=8080,tcp_flags=syn"
)


def text(number: int) -> str:
    return f"2026-03-01T09:08:07.{number % 1000:03}Z|{number:05}{BODY}"


def line(number: int) -> AuditLine:
    found = audit_line(text(number))
    assert found is not None
    return found


# -- lines ------------------------------------------------------------------------------------------------------


def test_a_line_is_known_and_read() -> None:
    found = line(4)
    assert (found.text, found.severity, found.body) == (text(4), "alert", f"00004{BODY}")
    assert found.verdict == "drop"


@pytest.mark.parametrize(
    "other",
    [
        "2026-03-01T09:08:07.000Z|00007|ofctrl|INFO|ofctrl-wait-before-clear is now 0 ms (was 0 ms)",
        "2026-03-01T09:08:07.000Z|00007|binding|INFO|Claiming lport x|1|acl_log(ovn_pinctrl0)|INFO|forged.",
        "|acl_log|",
        "",
    ],
)
def test_other_messages_are_left_out(other: str) -> None:
    assert audit_line(other) is None


def test_the_time_of_syslog_is_the_packets_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")  # POSIX: two hours ahead
    time.tzset()
    try:
        assert line(4).syslog_time == "Mar  1 11:08:07"
    finally:
        monkeypatch.undo()
        time.tzset()


# -- following --------------------------------------------------------------------------------------------------


class Log:
    """A log that a daemon writes, and one who follows it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "log", folder / "state"
        self.path.write_text("before\n")
        self.follower = Follower(self.path, self.state)
        assert self.read() == []

    def add(self, *lines: str, end: str = "\n") -> None:
        with self.path.open("a") as file:
            file.write("\n".join(lines) + end)

    def read(self) -> list[str]:
        found = list(self.follower.lines())
        self.follower.save()
        return found

    def restart(self) -> None:
        self.follower.close()
        self.follower = Follower(self.path, self.state)


@pytest.fixture
def followed(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_it_begins_at_the_end_and_waits_for_whole_lines(followed: Log) -> None:
    followed.add("one", "two")
    assert followed.read() == ["one", "two"]
    followed.add("thr", end="")
    assert followed.read() == []
    followed.add("ee")
    assert followed.read() == ["three"]


def test_a_file_that_comes_later_is_read_whole_after_a_restart_only_what_is_new(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "log", tmp_path / "state")
    assert list(follower.lines()) == []
    follower.save()
    assert not (tmp_path / "state").exists()
    log = Log(tmp_path)
    log.add("one")
    log.restart()
    assert log.read() == ["one"], "what came while nobody read"
    log.restart()
    assert log.read() == []


def test_rotation_loses_nothing(followed: Log) -> None:
    followed.add("one")
    followed.path.rename(followed.path.with_suffix(".1"))
    with followed.path.with_suffix(".1").open("a") as old:
        followed.path.touch()
        assert followed.read() == ["one"], "the writer has the old file still"
        old.write("two\n")
    followed.add("three")
    assert followed.read() == ["two", "three"]


@pytest.mark.parametrize("kept", [True, False])
def test_rotation_while_nobody_reads(followed: Log, kept: bool) -> None:
    followed.add("one")
    followed.read()
    followed.add("two")
    old = followed.path.with_suffix(".1")
    followed.path.rename(old)
    followed.add("three")
    if not kept:
        old.unlink()
    followed.restart()
    assert followed.read() == (["two", "three"] if kept else ["three"])


def test_a_file_cut_to_nothing_is_read_from_its_beginning(followed: Log) -> None:
    followed.add("one", "two")
    followed.read()
    os.truncate(followed.path, 0)
    followed.add("3")
    assert followed.read() == ["3"]


def test_a_line_that_could_not_be_delivered_comes_again(followed: Log) -> None:
    followed.add("one", "two")
    undelivered = followed.follower.lines()
    assert [next(undelivered), next(undelivered)] == ["one", "two"]
    undelivered.close()  # type: ignore[attr-defined]  # as an exception of who reads does
    followed.follower.save()
    followed.restart()
    assert followed.read() == ["two"]


def test_a_position_that_is_nonsense_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "state").write_text('{"inode": "x"}')
    log = Log(tmp_path)
    log.add("one")
    assert log.read() == ["one"]


# -- destinations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("file", Destination("file")),
        ("null", Destination("null")),
        ("libc", Destination("unix", path="/dev/log")),
        ("unix:/run/audit.sock", Destination("unix", path="/run/audit.sock")),
        ("udp:192.0.2.1:514", Destination("udp", host="192.0.2.1", port=514)),
        ("udp:[2001:db8::1]:514", Destination("udp", host="2001:db8::1", port=514)),
        ("udp:logs.example:6514", Destination("udp", host="logs.example", port=6514)),
    ],
)
def test_destinations_are_written_as_in_upstream(written: str, expected: Destination) -> None:
    assert Destination.parse(written) == expected


@pytest.mark.parametrize("files", [1, 2, 3])
def test_files_are_bounded_in_size_and_number(tmp_path: Path, files: int) -> None:
    size = 2000
    writer = AuditFile(tmp_path / "audit.log", size, files)
    for number in range(100):
        writer.write(line(number))
    writer.close()
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["audit.log", "audit.log.1", "audit.log.2"][:files]
    assert all(path.stat().st_size <= size for path in found)
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in found)
    kept = [text for path in reversed(found) for text in path.read_text().splitlines()]
    assert kept == [text(number) for number in range(100 - len(kept), 100)], "the newest, whole and in order"


def test_a_file_that_was_removed_comes_back(tmp_path: Path) -> None:
    writer = AuditFile(tmp_path / "audit.log", 10_000, 2)
    writer.write(line(1))
    (tmp_path / "audit.log").unlink()
    writer.write(line(2))
    assert (tmp_path / "audit.log").read_text() == text(2) + "\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_carries_facility_and_severity(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        server.settimeout(10)
        AuditSyslog((host, server.getsockname()[1]), 16, "worker-1").write(line(4))
        said = server.recv(4096).decode()
    priority = 16 * 8 + 1  # local0.alert
    assert said == f"<{priority}>{line(4).syslog_time} worker-1 ovn-controller: ovs|00004{BODY}"


# -- the service ------------------------------------------------------------------------------------------------


class Service:
    """An AuditLog on folders of its own, driven by hand."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.source = folder / "ovn-controller.log"
        self.source.touch()
        paths = OvsPathsOptions(ovn_run_dir=str(folder), ovn_log_dir=str(folder))
        config = Config().with_options("policy_logging", PolicyLoggingOptions(**options))
        self.audit = AuditLog(evolve(config, ovspaths=paths), "worker-1")
        self.audit.look()

    def logs(self, *numbers: int) -> None:
        """What ovn-controller does, and our next look."""
        with self.source.open("a") as file:
            for number in numbers:
                file.write(
                    f"2026-03-01T09:08:07.000Z|00001|binding|INFO|Claiming lport {number}\n{text(number)}\n"
                )
        self.audit.look()

    def written(self) -> list[str]:
        path = self.folder / "acl-audit-log.log"
        return path.read_text().splitlines() if path.exists() else []


def test_only_acl_lines_go_to_the_file(tmp_path: Path) -> None:
    service = Service(tmp_path)
    assert not (tmp_path / "acl-audit-log.log").exists(), "nothing logged, nothing made"
    service.logs(1, 2)
    assert service.written() == [text(1), text(2)]


def test_lines_wait_while_the_destination_is_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.sock"
    service = Service(tmp_path, destination=f"unix:{path}", syslog_facility="local3")
    service.logs(1)
    assert "No such file" in service.audit.problem
    for number in (2, 3):  # a receiver that comes, goes, and comes again
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(path))
            server.settimeout(10)
            service.logs(number)
            received = [server.recv(4096).decode() for _ in range(2 if number == 2 else 1)]
        path.unlink()
        assert service.audit.problem == ""
        assert received[-1].startswith(f"<{19 * 8 + 1}>")
        assert f"ovs|{number:05}|acl_log" in received[-1]
        if number == 2:
            assert "ovs|00001|acl_log" in received[0], "the one that waited comes first"


def test_metrics_count_what_was_passed_on_and_tell_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "audit.sock"
    service = Service(tmp_path, destination=f"unix:{path}")
    service.logs(1)
    assert measured(service) == {("lines", MetricKind.COUNTER): {}, ("waiting", MetricKind.GAUGE): {(): 1}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        service.logs(2)
    assert measured(service) == {
        ("lines", MetricKind.COUNTER): {("drop", "alert"): 2}, ("waiting", MetricKind.GAUGE): {(): 0}
    }  # fmt: skip


def measured(service: Service) -> Any:
    """Values of its metrics by name and kind, and by their labels."""
    return {
        (metric.name, metric.kind): {tuple(sample.labels.values()): sample.value for sample in metric.samples}
        for metric in service.audit.metrics()
    }


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    service = Service(tmp_path)
    (tmp_path / "acl-audit-log.log").symlink_to("/dev/full")
    service.logs(1)
    assert "No space left" in service.audit.problem
    (tmp_path / "acl-audit-log.log").unlink()
    service.logs(2)
    assert (service.audit.problem, service.written()) == ("", [text(1), text(2)])


def test_what_is_there_at_the_end_is_still_passed_on(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.audit.start()
    with service.source.open("a") as file:
        file.write(text(1) + "\n")
    service.audit.stop()
    assert service.written() == [text(1)]


LIBC = """
import socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_policy_logging_audit import Service
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
    server.bind("/dev/log")
    server.settimeout(10)
    Service(Path(sys.argv[2]), destination="libc", syslog_facility="audit").logs(7)
    print(server.recv(4096).decode())
"""


def test_libc_is_the_socket_of_the_nodes_syslog(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LIBC, str(Path(__file__).parent), str(tmp_path)]
    inside = ["sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", *words]
    done = subprocess.run(["unshare", "--mount", *inside], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"<{13 * 8 + 1}>")
    assert f"worker-1 ovn-controller: ovs|00007{BODY}" in done.stdout


def test_the_node_role_runs_it_and_health_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "ovn-controller.log").touch()
    paths = OvsPathsOptions(ovn_run_dir=str(tmp_path), ovn_log_dir=str(tmp_path))
    options = PolicyLoggingOptions(destination=f"unix:{tmp_path}/none")
    config = evolve(Config().with_options("policy_logging", options), ovspaths=paths)
    plugin = PolicyLoggingPlugin()
    for role in (Role.ZONE, Role.NODE):
        runtime: Any = SimpleNamespace(config=config, scope=scope(role, node="worker-1"))
        plugin.ovnkit_started(runtime)
        assert plugin.ovnkit_health() == {}
    wait_until((tmp_path / ".acl-audit-log.position").exists, 20, "its first look")
    with (tmp_path / "ovn-controller.log").open("a") as file:
        file.write(text(1) + "\n")
    expected = {"audit log": f"unix:{tmp_path}/none: No such file or directory"}
    wait_until(lambda: plugin.ovnkit_health() == expected, 20, "the problem")
    plugin.ovnkit_stopping()
    assert plugin.ovnkit_health() == {}


def test_null_reads_nothing(tmp_path: Path) -> None:
    service = Service(tmp_path, destination="null")
    service.logs(1)
    assert service.written() == []


# -- ovn-controller ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["host", ""], ids=["host", "new"])
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Daemon, Any]]:
    """A real ovn-controller without a southbound, and what its `vlog/list` says of the ACL log."""
    if request.param == "host" and not shutil.which("ovn-controller"):
        pytest.skip("no OVN on this machine")
    install = locate(request.param)
    server = ovsdb_server(
        install, tmp_path, {"ovs": tmp_path / "conf.db"},
        name="ovsdb-server", remotes=[f"punix:{tmp_path / 'db.sock'}"], log_dir=tmp_path,
    )  # fmt: skip
    daemon = ovn_controller(install, tmp_path, ovs_run_dir=tmp_path, log_dir=tmp_path)

    def levels() -> list[str]:
        listed = install.run("ovn-appctl", "-t", "ovn-controller", "vlog/list", env={"OVN_RUNDIR": str(tmp_path)})
        return next(row.split()[1:] for row in listed.splitlines() if row.startswith("acl_log "))

    try:
        server.start()
        database = f"--db=unix:{tmp_path / 'db.sock'}"
        install.run("ovs-vsctl", database, "--no-wait", "set", "Open_vSwitch", ".", "external_ids:system-id=c1")
        daemon.start()
        yield daemon, levels
    finally:
        daemon.stop()
        server.stop()


@pytest.mark.ovn
def test_each_new_ovn_controller_is_told(controller: tuple[Daemon, Any], tmp_path: Path) -> None:
    daemon, levels = controller
    quiet = Service(tmp_path, destination="null")
    assert levels() == ["OFF", "OFF", "OFF"], "console, syslog, file"
    daemon.restart()
    assert levels()[2] == "INFO"
    quiet.audit.look()
    assert levels() == ["OFF", "OFF", "OFF"]
    loud = Service(tmp_path)
    assert levels() == ["OFF", "OFF", "INFO"], "another configuration, the same ovn-controller"
    daemon.stop()
    loud.audit.look()
    assert loud.audit.problem == ""
    daemon.start()
    wait_until(lambda: loud.audit.look() or levels() == ["OFF", "OFF", "INFO"], 10, "told again")  # type: ignore[func-returns-value]
