"""Daemons are started, watched and stopped, by this process or by another; failures say why."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovnkit.testing.daemons import (
    Daemon,
    DaemonError,
    InstallError,
    OvnInstall,
    locate,
    ovsdb_server,
    unix_socket_answers,
)


def sleeper(folder: Path, *command: str, stop_deadline: float = 5.0) -> Daemon:
    return Daemon(
        name="sleeper", command=command or ("sleep", "600"), log=folder / "log", pid_file=folder / "pid",
        stop_deadline=stop_deadline,
    )  # fmt: skip


def test_a_daemon_runs_until_it_is_stopped(tmp_path: Path) -> None:
    daemon = sleeper(tmp_path)
    assert not daemon.running
    daemon.start()
    pid = daemon.pid
    assert Path(f"/proc/{pid}").exists()
    daemon.start()
    assert daemon.pid == pid, "starting what runs does nothing"
    daemon.stop()
    assert not daemon.running
    assert not Path(f"/proc/{pid}").exists()
    daemon.stop()


def test_another_process_can_stop_it_by_its_pid_file(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ovnkit.testing.daemons import Daemon; p = Path(sys.argv[1]);"
        "Daemon(name='sleeper', command=('sleep', '600'), log=p / 'log', pid_file=p / 'pid').start()"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    daemon = sleeper(tmp_path)
    assert daemon.running
    daemon.stop()
    assert not daemon.running


def test_a_pid_that_now_belongs_to_another_process_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1 12345\n")
    daemon = sleeper(tmp_path)
    assert not daemon.running
    daemon.stop()


def test_one_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    daemon = sleeper(
        tmp_path, "sh", "-c", "trap '' TERM; echo trapped; while :; do sleep 1; done", stop_deadline=0.3
    )
    daemon.launch()
    while "trapped" not in (tmp_path / "log").read_text():
        assert daemon.running
    daemon.stop()
    assert not daemon.running


def test_one_that_ends_at_its_start_tells_its_last_words(tmp_path: Path) -> None:
    daemon = Daemon(
        name="broken", command=("sh", "-c", "echo no such luck >&2; exit 1"), log=tmp_path / "log",
        pid_file=tmp_path / "pid", ready=lambda: False,
    )  # fmt: skip
    with pytest.raises(DaemonError, match="broken ended at its start: no such luck"):
        daemon.start(5)


def test_one_that_never_serves_is_told_after_the_deadline(tmp_path: Path) -> None:
    daemon = Daemon(
        name="slow", command=("sleep", "600"), log=tmp_path / "log", pid_file=tmp_path / "pid", ready=lambda: False
    )
    try:
        with pytest.raises(DaemonError, match="slow isn't ready after 0 s"):
            daemon.start(0.2)
    finally:
        daemon.stop()


def test_a_root_that_is_not_there_is_named() -> None:
    with pytest.raises(InstallError, match="/no/root: no such directory"):
        locate("/no/root")


def test_a_root_without_ovn_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=f"not found in {tmp_path}"):
        locate(str(tmp_path))


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    for directory in ("usr/sbin", "etc/alternatives", "usr/lib/real"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/lib/real/tool").touch()
    (tmp_path / "etc/alternatives/tool").symlink_to("/usr/lib/real/tool")
    (tmp_path / "usr/sbin/tool").symlink_to("/etc/alternatives/tool")
    assert OvnInstall(tmp_path).program("tool") == tmp_path / "usr/lib/real/tool"


@pytest.fixture(params=["host", ""])
def install(request: pytest.FixtureRequest) -> OvnInstall:
    if request.param == "host" and not shutil.which("ovn-northd"):
        pytest.skip("no OVN on this machine")
    return locate(request.param)


@pytest.mark.ovn
def test_a_database_is_made_served_and_kept(install: OvnInstall, tmp_path: Path) -> None:
    def server() -> Daemon:
        return ovsdb_server(
            install, tmp_path, {"nb": tmp_path / "nb.db"},
            name="nb", remotes=[f"punix:{tmp_path / 'nb.sock'}"], log_dir=tmp_path,
        )  # fmt: skip

    daemon = server()
    daemon.start()
    try:
        assert unix_socket_answers(tmp_path / "nb.sock")
        install.run("ovn-nbctl", f"--db=unix:{tmp_path / 'nb.sock'}", "ls-add", "kept")
        daemon.restart()
        assert "kept" in install.run("ovn-nbctl", f"--db=unix:{tmp_path / 'nb.sock'}", "ls-list")
    finally:
        daemon.stop()
    assert not unix_socket_answers(tmp_path / "nb.sock")


@pytest.mark.ovn
def test_wrappers_run_the_right_version(install: OvnInstall, tmp_path: Path) -> None:
    install.write_wrappers(tmp_path)
    shown = subprocess.run([str(tmp_path / "ovn-nbctl"), "--version"], capture_output=True, text=True, check=True)
    version = install.ovn_version
    assert shown.stdout.startswith(f"ovn-nbctl {version[0]}.{version[1]:02}.")


@pytest.mark.ovn
def test_a_failing_tool_says_what_failed(install: OvnInstall) -> None:
    with pytest.raises(InstallError, match=r"ovn-nbctl --no-such-option: exit code 1"):
        install.run("ovn-nbctl", "--no-such-option")
