"""ovs-ofctl as a function: dump what a bridge has, apply a bundle, watch for changes made by others."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import frozen

TIMEOUT = 15.0
"""Seconds for one call; a bridge that does not answer for longer is gone."""

_COOKIE = re.compile(r"cookie=(0x[0-9a-f]+)")
_LAST = re.compile(r"cookie=(0x[0-9a-f]+), (?:table=0, )?priority=0 actions=")
_DELETED = re.compile(r"event=DELETED .*cookie=(0x[0-9a-f]+)")
_GROUP = re.compile(r"group_id=(\d+)")


class OfctlError(RuntimeError):
    """ovs-ofctl failed; the text is its message."""


@frozen
class Bridge:
    """Where a bridge is managed: its name, and the run directory of its ovs-vswitchd."""

    name: str
    run_dir: str

    @property
    def target(self) -> str:
        """The management socket."""
        return f"unix:{self.run_dir}/{self.name}.mgmt"

    def argv(self, *arguments: str) -> list[str]:
        """The command line of one call."""
        return ["ovs-ofctl", "-O", "OpenFlow15", *arguments[:1], self.target, *arguments[1:]]


def run(bridge: Bridge, *arguments: str, text: str = "") -> str:
    """Run one command with `text` on its standard input; raises OfctlError with the first line it says."""
    try:
        done = subprocess.run(
            bridge.argv(*arguments), input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OfctlError(str(error)) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ovs-ofctl {arguments[0]} failed"]
        raise OfctlError(lines[0])
    return done.stdout


def conntrack(run_dir: str) -> str:
    """The connections that all datapaths of an ovs-vswitchd track, one a line; raises OfctlError."""
    try:
        pid = Path(run_dir, "ovs-vswitchd.pid").read_text().strip()
        datapaths = _appctl(run_dir, pid, "dpctl/dump-dps").split()
        return "".join(_appctl(run_dir, pid, "dpctl/dump-conntrack", name) for name in datapaths)
    except (OSError, subprocess.SubprocessError) as error:
        raise OfctlError(str(getattr(error, "stderr", "") or error).strip()) from error


def _appctl(run_dir: str, pid: str, *arguments: str) -> str:
    command = ["ovs-appctl", "-t", f"{run_dir}/ovs-vswitchd.{pid}.ctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout


def cookies(bridge: Bridge) -> tuple[set[int], int | None]:
    """Cookies of all flows of the bridge, and that of the flow for what no other takes (None: 0, or no flow)."""
    dump = run(bridge, "dump-flows", "--no-stats")
    last = _LAST.search(dump)
    return {int(found, 16) for found in _COOKIE.findall(dump)}, int(last[1], 16) if last else None


def groups(bridge: Bridge) -> set[int]:
    """Numbers of all groups of the bridge."""
    return {int(found) for found in _GROUP.findall(run(bridge, "dump-groups"))}


def apply(
    bridge: Bridge,
    *,
    delete: Iterable[int],
    add: Mapping[int, str],
    delete_groups: Iterable[int] = (),
    add_groups: Iterable[str] = (),
) -> None:
    """Apply flows (by cookie) and groups as one bundle: all of it or nothing."""
    lines = [f"group add {text}" for text in add_groups]
    lines += [f"flow delete cookie={cookie:#x}/-1" for cookie in delete]
    lines += [f"flow add cookie={cookie:#x},{text}" for cookie, text in add.items()]
    lines += [f"group delete group_id={number}" for number in delete_groups]
    if lines:
        run(bridge, "bundle", "-", text="\n".join(lines) + "\n")


def watch(
    bridge: Bridge, deleted: Callable[[int], None], started: Callable[[subprocess.Popen[str]], None]
) -> None:
    """Call `deleted(cookie)` for each flow that somebody else deletes, until the bridge or the process ends.

    `started` gets the process, so that another thread can end it.
    """
    program, *arguments = bridge.argv("monitor", "watch:!initial,!add,!modify,!own")
    # Without a control socket: where its usual folder is missing, the monitor would end at once.
    with subprocess.Popen(
        [program, "--unixctl=none", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        started(process)
        assert process.stdout is not None
        for line in process.stdout:
            found = _DELETED.search(line)
            if found:
                deleted(int(found[1], 16))
