"""Start, watch and stop the daemons of OVN and Open vSwitch: for labs, tests and tools.

A daemon is known by its pid file, so that another process than the one that started it can stop it. Nothing
here needs a supervisor, and nothing here knows of the rest of ovnkit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from ovnkit.api.errors import OvnkitError
from ovnkit.testing.installs import InstallError, OvnInstall, locate

__all__ = [
    "Daemon", "DaemonError", "InstallError", "OvnInstall", "locate", "northd", "ovn_controller", "ovsdb_server",
    "unix_socket_answers", "vswitchd",
]  # fmt: skip

START_DEADLINE = 20.0
"""Seconds a daemon may take to become ready; they take well under one on an idle machine."""
STOP_DEADLINE = 10.0
"""Seconds between the polite signal and the one that can't be ignored."""
_POLL = 0.02

# Children must be kept and polled, or they would stay zombies as long as this process lives.
_children: dict[int, subprocess.Popen[bytes]] = {}


class DaemonError(OvnkitError):
    """A daemon didn't start or stop; the text has its name, the cause and its last log line."""


@frozen
class Daemon:
    """One daemon: how it is started, and where its traces are.

    `netns` is the name of the network namespace it runs in (empty: this one). `ready` says whether it serves.
    `stop_command` is run before any signal (for daemons whose way of leaving matters). `share_mounts` keeps
    the host's mount namespace also inside `netns` (for those who make namespaces themselves).
    """

    name: str
    command: Sequence[str]
    log: Path
    pid_file: Path
    netns: str = ""
    env: Mapping[str, str] = field(factory=dict)
    ready: Callable[[], bool] = field(default=lambda: True, eq=False)
    stop_command: Sequence[str] = ()
    share_mounts: bool = False
    stop_deadline: float = STOP_DEADLINE

    @property
    def pid(self) -> int:
        """Process id; 0 when it doesn't run."""
        try:
            pid, started = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return 0
        return int(pid) if _start_time(int(pid)) == started else 0

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.pid != 0

    def start(self, deadline: float = START_DEADLINE) -> None:
        """Start it and return when it serves; does nothing when it runs already. Raises DaemonError."""
        self.launch()
        self.wait_ready(deadline)

    def launch(self) -> None:
        """Start it without waiting."""
        if self.running:
            return
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*_enter(self.netns, self.share_mounts), *self.command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.env}, start_new_session=True, cwd="/",
            )  # fmt: skip
        _children[process.pid] = process
        partial = self.pid_file.with_suffix(".new")
        partial.write_text(f"{process.pid} {_start_time(process.pid)}\n")
        partial.rename(self.pid_file)

    def wait_ready(self, deadline: float = START_DEADLINE) -> None:
        """Return when it serves; raises DaemonError when it ends or after `deadline` seconds."""
        end = time.monotonic() + deadline
        while True:
            if not self.running:
                raise DaemonError(f"{self.name} ended at its start: {self.last_words()}")
            if self.ready():
                return
            if time.monotonic() > end:
                raise DaemonError(f"{self.name} isn't ready after {deadline:.0f} s: {self.last_words()}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End it: its own way, then SIGTERM, then SIGKILL. Does nothing when it doesn't run."""
        if self.running and self.stop_command:
            subprocess.run(
                self.stop_command, env={**os.environ, **self.env}, capture_output=True, timeout=10, check=False
            )
            self._gone(self.stop_deadline)
        if self._signal(signal.SIGTERM, self.stop_deadline) or self._signal(signal.SIGKILL, STOP_DEADLINE):
            self.pid_file.unlink(missing_ok=True)
            return
        raise DaemonError(f"{self.name} (pid {self.pid}) can't be killed")

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if not self._signal(signal.SIGKILL, STOP_DEADLINE):
            raise DaemonError(f"{self.name} (pid {self.pid}) can't be killed")
        self.pid_file.unlink(missing_ok=True)

    def restart(self, deadline: float = START_DEADLINE) -> None:
        """Stop and start it."""
        self.stop()
        self.start(deadline)

    def last_words(self, lines: int = 1) -> str:
        """The last lines of its log that say something, joined by ` | `."""
        try:
            text = self.log.read_text(errors="replace")[-4000:]
        except OSError:
            return "no log"
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(said[-lines:]) or "empty log"

    def _signal(self, number: signal.Signals, deadline: float) -> bool:
        pid = self.pid
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return True
        return self._gone(deadline)

    def _gone(self, deadline: float) -> bool:
        end = time.monotonic() + deadline
        while self.running:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL)
        return True


def _enter(netns: str, share_mounts: bool) -> list[str]:
    if not netns:
        return []
    if share_mounts:
        return ["nsenter", f"--net=/run/netns/{netns}", "--"]
    return ["ip", "netns", "exec", netns]


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when it is gone or a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def unix_socket_answers(path: Path) -> bool:
    """Whether something accepts connections on a unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


# -- the daemons --------------------------------------------------------------------------------------------


def _answers_control(run_dir: Path, program: str) -> bool:
    """Whether a daemon answers `appctl`: its pid file is there and its control socket accepts."""
    try:
        pid = (run_dir / f"{program}.pid").read_text().strip()
    except OSError:
        return False
    return bool(pid) and unix_socket_answers(run_dir / f"{program}.{pid}.ctl")


def _run_directories(install: OvnInstall, run_dir: Path) -> dict[str, str]:
    path = str(run_dir)
    names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR")
    return {**install.environment, **dict.fromkeys(names, path)}


def ovsdb_server(
    install: OvnInstall, run_dir: Path, databases: Mapping[str, Path], *,
    name: str, remotes: Sequence[str], log_dir: Path, netns: str = "",
) -> Daemon:  # fmt: skip
    """An ovsdb-server for `databases` (`nb`, `sb` or `ovs` to file), made from the schema when missing.

    `remotes` are passive endpoints (`punix:PATH`, `ptcp:PORT:ADDRESS`); the first `punix` tells readiness.
    """
    for db, file in databases.items():
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            install.run("ovsdb-tool", "create", str(file), str(install.schema(db)))
    run_dir.mkdir(parents=True, exist_ok=True)
    sockets = [Path(remote.removeprefix("punix:")) for remote in remotes if remote.startswith("punix:")]
    if not sockets:
        raise ValueError("a punix: remote is needed")
    arguments = [
        *(f"--remote={remote}" for remote in remotes),
        f"--unixctl={run_dir / f'{name}.ctl'}", f"--pidfile={run_dir / f'{name}.pid'}",
        "--no-chdir", "-vconsole:info", "-vsyslog:off", "-vfile:off",
        *(str(file) for file in databases.values()),
    ]  # fmt: skip
    return Daemon(
        name=name, netns=netns,
        command=install.command("ovsdb-server", *arguments),
        log=log_dir / f"{name}.log", pid_file=run_dir / f"{name}.daemon",
        env=_run_directories(install, run_dir), ready=lambda: unix_socket_answers(sockets[0]),
    )  # fmt: skip


def northd(install: OvnInstall, run_dir: Path, *, nb: str, sb: str, log_dir: Path, netns: str = "") -> Daemon:
    """ovn-northd between the databases at `nb` and `sb` (`unix:PATH`, `tcp:ADDRESS:PORT`)."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return Daemon(
        name="ovn-northd", netns=netns,
        command=install.command(
            "ovn-northd", f"--ovnnb-db={nb}", f"--ovnsb-db={sb}", f"--pidfile={run_dir / 'ovn-northd.pid'}",
            "--no-chdir", "-vconsole:info", "-vsyslog:off", "-vfile:off",
        ),
        log=log_dir / "ovn-northd.log", pid_file=run_dir / "ovn-northd.daemon",
        env=_run_directories(install, run_dir), ready=lambda: _answers_control(run_dir, "ovn-northd"),
    )  # fmt: skip


def ovn_controller(
    install: OvnInstall, run_dir: Path, *, ovs_run_dir: Path, log_dir: Path, netns: str = ""
) -> Daemon:
    """ovn-controller of the Open vSwitch whose run directory is `ovs_run_dir`.

    It is stopped with `exit --restart`: it leaves its chassis and flows, so that traffic goes on meanwhile.
    It opens its log itself, as `ovn-ctl` has it: what follows the log can tell it to write more or less there.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    env = {**_run_directories(install, run_dir), "OVS_RUNDIR": str(ovs_run_dir)}
    log = log_dir / "ovn-controller.log"
    return Daemon(
        name="ovn-controller", netns=netns,
        command=install.command(
            "ovn-controller", f"unix:{ovs_run_dir / 'db.sock'}", f"--pidfile={run_dir / 'ovn-controller.pid'}",
            "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:info", f"--log-file={log}",
        ),
        log=log, pid_file=run_dir / "ovn-controller.daemon",
        env=env, ready=lambda: _answers_control(run_dir, "ovn-controller"),
        stop_command=install.command("ovn-appctl", "-t", "ovn-controller", "exit", "--restart"),
    )  # fmt: skip


def vswitchd(install: OvnInstall, run_dir: Path, *, log_dir: Path, netns: str = "") -> Daemon:
    """ovs-vswitchd with the userspace datapath only, on the database socket `db.sock` of `run_dir`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return Daemon(
        name="ovs-vswitchd", netns=netns,
        command=install.command(
            "ovs-vswitchd", f"unix:{run_dir / 'db.sock'}", f"--pidfile={run_dir / 'ovs-vswitchd.pid'}",
            "--disable-system", "--no-chdir", "-vconsole:info", "-vsyslog:off", "-vfile:off",
        ),
        log=log_dir / "ovs-vswitchd.log", pid_file=run_dir / "ovs-vswitchd.daemon",
        env=_run_directories(install, run_dir), ready=lambda: _answers_control(run_dir, "ovs-vswitchd"),
    )  # fmt: skip
