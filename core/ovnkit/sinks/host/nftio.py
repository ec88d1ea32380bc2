"""Running nft: transactions, listings, and a monitor that tells when somebody else changed the table."""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping

import structlog
from attrs import field, frozen

from ovnkit.api.nft import FAMILY, TABLE
from ovnkit.engine.refusals import Refused, find_refused
from ovnkit.sinks.host.nftplan import Context, Part, Plan
from ovnkit.sinks.host.nfttext import WHOLE, Listed, parse_listing

log = structlog.get_logger()

RESYNC = 60.0
"""Seconds between looks without cause."""
_DEBOUNCE = 0.1
_TIMEOUT = 60.0
_ERROR = re.compile(r"^(?:\S+:[\d:-]+: )?Error: (.*)", re.MULTILINE)
_TRIAL = ("unshare", "--net")
"""Where parts are tried: in a network namespace of their own, which has no packets. (`nft --check` doesn't do: the
kernel finds some faults only when it commits.)"""
_GENERATION = re.compile(r"# new generation \d+ by process (\d+) ")


class NftError(Exception):
    """nft could not be run as it should; the text is its first line."""


class NftRefused(NftError, Refused):
    """nft, or the kernel, doesn't take what it was given; the text says why, and not where."""


@frozen
class Look:
    """What a listing found; `content` is None when there is no table."""

    content: Listed | None


@frozen
class Outcome:
    """What came of a plan: what was refused and why (all the rest is applied), an error for which no part is to
    blame (nothing is applied), and the table now (None: it is as the plan makes it). With `search`, nft refused it
    as a whole, and nothing is applied yet."""

    refused: Mapping[Part, str] = field(factory=dict)
    error: str = ""
    look: Look | None = None
    search: bool = False


@frozen
class _Apply:
    commands: list[str]
    plan: Plan
    context: Context | None = None


class NftWorker:
    """Runs nft in a thread of its own; every callback is posted to the reconciler.

    `listed(look)` follows each listing that nobody asked for, `applied(plan, outcome)` each `apply`,
    `wake()` a `wake_after`.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        listed: Callable[[Look], None],
        applied: Callable[[Plan, Outcome], None],
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
        """Apply the commands of a plan as one transaction."""
        self._queue.put(_Apply(commands, plan))

    def apply_parts(self, plan: Plan, context: Context) -> None:
        """Apply a plan that was refused, without what is to blame."""
        self._queue.put(_Apply([], plan, context))

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
        except Exception as error:  # of nft, or because somebody has put into the table what we can't read
            log.warning("nftables can't be listed", error=repr(error))
            return False
        self._post(lambda: self._listed(look))
        return True

    def _apply(self, task: _Apply) -> None:
        plan = task.plan
        refused: dict[Part, str] = {}
        error, first = "", task.context is None
        try:
            if task.context is None:
                self._nft(task.commands)
            else:
                refused = self._find_refused(plan, task.context)
                self._nft(plan.commands(refused))
        except NftRefused as refusal:
            error = str(refusal)
        except Exception as failure:  # whatever it is, others' changes come after this one
            error, first = str(failure), False
        look: Look | None = None
        if error or refused or not plan.only_elements or not plan.parts:
            with contextlib.suppress(NftError, OSError, subprocess.SubprocessError, ValueError):
                look = self._list()
        outcome = Outcome(refused, error, look)
        if error and first and look is not None:
            # Unless the table has changed since the plan was made: then that is why.
            outcome = Outcome(look=look, search=(look.content or Listed()) == plan.base)
        self._post(lambda: self._applied(plan, outcome))

    def _find_refused(self, plan: Plan, context: Context) -> dict[Part, str]:
        """Try the parts of a plan in an empty namespace, on top of those that were accepted there."""
        accepted: set[Part] = set()

        def attempt(parts: Collection[Part]) -> None:
            self._nft(plan.trial(context, accepted.union(parts)), *_TRIAL)
            accepted.update(parts)

        try:
            attempt(())
        except NftRefused as error:
            raise NftError(f"what is there already is refused: {error}") from error
        refused = find_refused(plan.parts, attempt)
        return refused | find_refused(plan.stand_ins(refused), attempt)

    def _list(self) -> Look:
        try:
            return Look(parse_listing(self._run_nft("-j", "-n", "list", "table", FAMILY, TABLE)))
        except NftError as error:
            if "No such file or directory" in str(error):
                return Look(None)
            raise

    def _nft(self, commands: Collection[str], *wrapper: str) -> None:
        """Apply commands as one transaction; raises NftRefused when they are at fault."""
        if commands:
            self._run_nft("-f", "-", text="\n".join(commands), wrapper=wrapper)

    def _run_nft(self, *arguments: str, text: str | None = None, wrapper: Collection[str] = ()) -> bytes:
        try:
            content = (text or "").encode()
        except UnicodeEncodeError as error:
            raise NftRefused(f"no text: {error.reason}") from error
        with subprocess.Popen(
            [*wrapper, "nft", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            if text is not None and not wrapper:
                self._own.add(process.pid)
            try:
                out, err = process.communicate(content, timeout=_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode:
            said = err.decode(errors="replace").strip()
            found = _ERROR.search(said)
            if found is not None:
                raise NftRefused(found[1].strip())
            raise NftError(next(iter(said.splitlines()), f"exit {process.returncode}"))
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
