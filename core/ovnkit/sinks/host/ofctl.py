"""ovs-ofctl as a function: dump what a bridge has, apply a bundle, watch for changes made by others.

Of a dumped flow only the cookie is read, by a regular expression: `ovs.flow` of python-ovs parses it all, and
takes 0.2 s for 2,000 flows (and as long to be imported, with pyparsing) where this takes 1 ms.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen

from ovnkit.engine.refusals import Refused

TIMEOUT = 15.0
"""Seconds for one call; a bridge that does not answer for longer is gone."""

_COOKIE = re.compile(r"cookie=(0x[0-9a-f]+)")
_LAST = re.compile(r"cookie=(0x[0-9a-f]+), (?:table=0, )?priority=0 actions=")
_DELETED = re.compile(r"event=DELETED .*cookie=(0x[0-9a-f]+)")
_GROUP = re.compile(r"group_id=(\d+)")
_BAD_LINE = re.compile(r"^ovs-ofctl: -:\d+: (.*)", re.MULTILINE)
_BAD_MESSAGE = re.compile(r"^Error (OFP\w+)", re.MULTILINE)


class OfctlError(RuntimeError):
    """ovs-ofctl failed; the text is its message."""


class OfctlRefused(OfctlError, Refused):
    """ovs-ofctl could not read the text it was given, or the bridge answered with an error of OpenFlow."""


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
    """Run one command with `text` on its standard input.

    Raises OfctlRefused when that text is at fault, else OfctlError with the first line ovs-ofctl says.
    """
    try:
        done = subprocess.run(
            bridge.argv(*arguments),
            input=text.encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except UnicodeEncodeError as error:
        raise OfctlRefused(f"no text: {error.reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OfctlError(str(error)) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        found = _BAD_LINE.search(said) or _BAD_MESSAGE.search(said)
        if found is not None:
            raise OfctlRefused(found[1])
        raise OfctlError(next(iter(said.splitlines()), f"ovs-ofctl {arguments[0]} failed"))
    return done.stdout.decode(errors="replace")


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


def apply(bridge: Bridge, lines: Iterable[str]) -> None:
    """Apply lines (`add_flow`, `delete_flow`, `group add ...`) as one bundle: all of it or nothing."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        run(bridge, "bundle", "-", text=text)


def add_flow(cookie: int, text: str) -> str:
    """The line of a bundle that makes a flow, in place of one with the same table, priority and match."""
    return f"flow add cookie={cookie:#x},{text}"


def delete_flow(cookie: int) -> str:
    """The line of a bundle that deletes the flows with a cookie."""
    return f"flow delete cookie={cookie:#x}/-1"


def watch(
    bridge: Bridge, deleted: Callable[[int], None], started: Callable[[subprocess.Popen[str]], None]
) -> None:
    """Call `deleted(cookie)` for each flow that is deleted, by whomever, until the bridge or the process ends.

    `started` gets the process, so that another thread can end it.
    """
    program, *arguments = bridge.argv("monitor", "watch:!initial,!add,!modify")
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
