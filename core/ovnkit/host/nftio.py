"""Running nft: transactions, listings, and a monitor that tells when somebody else changed the table."""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable

import structlog
from attrs import frozen

from ovnkit.api.nft import FAMILY, TABLE
from ovnkit.host.nftplan import Name, Plan
from ovnkit.host.nfttext import WHOLE, Listed, parse_listing

log = structlog.get_logger()

RESYNC = 60.0
"""Seconds between looks without cause."""
_DEBOUNCE = 0.1
_TIMEOUT = 60.0
_GENERATION = re.compile(r"# new generation \d+ by process (\d+) ")


class NftError(Exception):
    """nft refused; the text is its first line."""


@frozen
class Look:
    """What a listing found; `content` is None when there is no table."""

    content: Listed | None


@frozen
class _Apply:
    commands: list[str]
    plan: Plan


class NftWorker:
    """Runs nft in a thread of its own; every callback is posted to the reconciler.

    `listed(look)` follows each listing that nobody asked for, `applied(plan, failures, look)` each `apply`,
    `wake()` a `wake_after`.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        listed: Callable[[Look], None],
        applied: Callable[[Plan, dict[Name, str], Look | None], None],
        wake: Callable[[], None],
    ) -> None:
        self._post = post
        self._listed = listed
        self._applied = applied
        self._wake = wake
        self._queue: queue.SimpleQueue[_Apply | str] = queue.SimpleQueue()
        self._wakes: list[float] = []
        self._own: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="nft", daemon=True)
        self._monitor = _Monitor(self._own, lambda: self._queue.put("look"))

    def start(self) -> None:
        """Start the threads."""
        self._monitor.start()
        self._thread.start()

    def stop(self) -> None:
        """End them."""
        self._queue.put("stop")
        self._monitor.stop()
        if self._thread.is_alive():
            self._thread.join(5)

    def apply(self, commands: list[str], plan: Plan) -> None:
        """Apply commands as one transaction; where nft refuses it, thing by thing."""
        self._queue.put(_Apply(commands, plan))

    def wake_after(self, delay: float) -> None:
        """Post `wake` after a while."""
        self._queue.put(f"wake {time.monotonic() + delay}")

    def _run(self) -> None:
        look_at = time.monotonic()
        while True:
            due = min([look_at, *self._wakes])
            try:
                task = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                task = ""
            if task == "stop":
                return
            if task == "look":
                look_at = min(look_at, time.monotonic() + _DEBOUNCE)
            elif isinstance(task, _Apply):
                self._apply(task)
            elif task.startswith("wake "):
                self._wakes.append(float(task.removeprefix("wake ")))
            now = time.monotonic()
            if any(wake <= now for wake in self._wakes):
                self._wakes = [wake for wake in self._wakes if wake > now]
                self._post(self._wake)
            if look_at <= now:
                look_at = now + (RESYNC if self._look() else 1.0)

    def _look(self) -> bool:
        try:
            look = self._list()
        except (NftError, OSError, subprocess.SubprocessError, ValueError) as error:
            log.warning("nftables can't be listed", error=str(error))
            return False
        self._post(lambda: self._listed(look))
        return True

    def _apply(self, task: _Apply) -> None:
        plan = task.plan
        failures: dict[Name, str] = {}
        try:
            self._nft("\n".join(task.commands))
        except (NftError, OSError, subprocess.SubprocessError) as error:
            failures = self._apply_singly(plan, str(error))
        look: Look | None = None
        if failures or not plan.only_elements or not plan.names:
            with contextlib.suppress(NftError, OSError, subprocess.SubprocessError, ValueError):
                look = self._list()
        self._post(lambda: self._applied(plan, failures, look))

    def _apply_singly(self, plan: Plan, message: str) -> dict[Name, str]:
        """Find out who is to blame: all sets first, then each chain, each in a transaction of its own."""
        log.info("nft refused a transaction, trying its parts", error=message)
        failures: dict[Name, str] = {}
        for name in plan.names:
            try:
                self._nft("\n".join([f"add table {WHOLE}", *plan.commands(frozenset({name}))]))
            except (NftError, OSError, subprocess.SubprocessError) as error:
                failures[name] = str(error)
        return failures

    def _list(self) -> Look:
        try:
            return Look(parse_listing(self._nft(None)))
        except NftError as error:
            if "No such file or directory" in str(error):
                return Look(None)
            raise

    def _nft(self, text: str | None) -> bytes:
        """Run nft: apply `text`, or list the table. Raises NftError."""
        command = ["nft", "-f", "-"] if text is not None else ["nft", "-j", "-n", "list", "table", FAMILY, TABLE]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            if text is not None:
                self._own.add(process.pid)
            try:
                out, err = process.communicate((text or "").encode(), timeout=_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode:
            lines = err.decode(errors="replace").strip().splitlines() or [f"exit {process.returncode}"]
            raise NftError(next((line for line in lines if "rror" in line), lines[0]).strip())
        return out


class _Monitor:
    """Follows `nft monitor`, and calls `changed` when another process than those in `own` changed the table."""

    def __init__(self, own: set[int], changed: Callable[[], None]) -> None:
        self._own = own
        self._changed = changed
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="nft-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.terminate()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except OSError as error:
                log.warning("nft monitor can't be run", error=str(error))
            if not self._stopping.wait(1.0):
                self._changed()

    def _follow(self) -> None:
        # Should this process be killed, the child must not stay: it would notice only with its next line.
        tied = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with subprocess.Popen(
            [*tied, "nft", "monitor"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        ) as process:
            self._process = process
            if self._stopping.is_set():
                process.terminate()
            ours = False
            for line in process.stdout or ():
                match = _GENERATION.match(line)
                if match is None:
                    ours = ours or f" {WHOLE}" in line
                    continue
                pid = int(match.group(1))
                if ours and pid not in self._own:
                    self._changed()
                self._own.discard(pid)
                ours = False
