"""Watches whether northd and the ovn-controllers do their work, and says since when they don't.

A number goes the whole way: NB_Global's nb_cfg, which northd copies to the southbound (and answers in sb_cfg) and
each ovn-controller to its Chassis_Private. The zone raises it once a minute, and at once when a northd that was on
this machine is gone. A start writes nothing. Nobody is judged by a database that doesn't answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog
from attrs import define, field

from ovnkit.api.hooks import Runtime, Scope, Tell
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.network.node import CHASSIS_ID
from ovnkit.network.ovn_daemons import (
    NORTHBOUND_SERVER,
    NORTHD,
    OVN_DAEMONS,
    SOUTHBOUND_SERVER,
    OvnDaemon,
    controller,
)
from ovnkit_topology import appctl
from ovnkit_topology.progress import CHASSIS_PROGRESS, NB_PROGRESS, NORTHBOUND, SB_PROGRESS, SOUTHBOUND

log = structlog.get_logger()

TICK = 5.0
"""Seconds between looks: a few comparisons, and a question to the node's ovn-controller."""
RAISE_PERIOD = 60.0
"""Seconds after which nb_cfg is raised to see whether everybody follows."""
PATIENCE = 30.0
"""Seconds without any progress after which a daemon counts as dead: northd may be at work for seconds."""
LOCAL_PATIENCE = 10.0
"""The same for what the daemon itself, or its absence, tells: a restart takes less."""

_DATABASES = {NORTHBOUND_SERVER: ("nb", "northbound"), SOUTHBOUND_SERVER: ("sb", "southbound")}


@define
class _Watch:
    """One daemon: what is wrong with it, since when, and whether that has been told."""

    mark: object = None
    """What it is stuck at; another one begins a new time."""
    since: float = 0.0
    text: Callable[[float], str] = field(default=lambda _: "")
    patience: float = PATIENCE
    told: bool = False

    def seconds(self, now: float) -> float:
        """How long it has been stuck; 0 when it works."""
        return now - self.since if self.mark is not None else 0.0


class Liveness:
    """The answerer of `OVN_DAEMONS`. It looks in a thread of its own, from `start` to `stop`."""

    kind = OVN_DAEMONS

    def __init__(
        self, scope: Scope, run_dir: str, tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scope = scope
        self._run_dir = run_dir
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._watches: dict[str, _Watch] = {}
        self._runtime: Runtime | None = None
        self._stopped = threading.Event()
        self._raised = clock()
        self._northd_seen = self._northd_here = False
        """Whether northd has answered on this machine, ever and when last looked at."""
        self._thread = threading.Thread(target=self._run, name="ovn-liveness", daemon=True)

    # -- the interface of an answerer -------------------------------------------------------------------------

    def ask(self, keys: Collection[str]) -> None:
        """Watch these daemons from now on."""
        with self._lock:
            self._watches.update({key: _Watch() for key in keys})
        self._tell(OVN_DAEMONS, [(key, OvnDaemon(key)) for key in keys])

    def drop(self, keys: Collection[str]) -> None:
        """Watch them no more."""
        with self._lock:
            for key in keys:
                self._watches.pop(key, None)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def start(self, runtime: Runtime) -> None:
        """Begin to look."""
        self._runtime = runtime
        self._thread.start()

    # -- looking ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._has_vanished()  # a northd that dies before the first look has been seen, too
        while not self._stopped.wait(TICK):
            try:
                self.look()
            except Exception:
                log.exception("OVN's daemons can't be watched", plugin="topology")

    def look(self) -> None:
        """Look once at every daemon that is asked about, and tell what has changed."""
        runtime, now = self._runtime, self._clock()
        assert runtime is not None
        with self._lock:
            watches = dict(self._watches)
        if Role.ZONE in self._scope.roles:
            self._raise_if_due(runtime, now)
        for key, watch in watches.items():
            self._note(watch, self._stuck(runtime, key), now)
            dead = watch.seconds(now) >= watch.patience and watch.mark is not None
            if dead is not watch.told:
                watch.told = dead
                problem = watch.text(watch.seconds(now)) if dead else ""
                (log.warning if dead else log.info)(
                    "OVN daemon", daemon=key, plugin="topology", state=problem or "works again"
                )
                self._tell(OVN_DAEMONS, [(key, OvnDaemon(key, problem))])

    @staticmethod
    def _note(watch: _Watch, found: _Found | None, now: float) -> None:
        if found is None:
            watch.mark = None
            return
        mark, watch.text, watch.patience = found
        if watch.mark != mark:
            watch.mark, watch.since = mark, now

    def _stuck(self, runtime: Runtime, key: str) -> _Found | None:
        if key in _DATABASES:
            return _database(runtime, key)
        if key == NORTHD:
            return self._northd(runtime)
        node = key.partition("/")[2]
        found = self._own_controller() if node == self._scope.node else None
        if found is None and Role.ZONE in self._scope.roles:
            found = _controller(runtime, node)
        return found

    def _northd(self, runtime: Runtime) -> _Found | None:
        seen = runtime.get(NB_PROGRESS, NORTHBOUND)
        if seen is None or seen.sb_cfg >= seen.nb_cfg or any(_database(runtime, key) for key in _DATABASES):
            return None
        text = f"northd doesn't answer: nb_cfg {seen.nb_cfg}, sb_cfg {seen.sb_cfg} for"
        gone = "; it isn't running on this machine" if self._northd_answers() is False else ""
        return seen.sb_cfg, lambda seconds: f"{text} {seconds:.0f} s{gone}", PATIENCE

    def _own_controller(self) -> _Found | None:
        """What the node's ovn-controller says of itself."""
        try:
            status = appctl.ask(self._run_dir, "ovn-controller", "connection-status")
        except appctl.NotRunningError:
            return "down", lambda seconds: f"ovn-controller isn't running for {seconds:.0f} s", LOCAL_PATIENCE
        except appctl.SilentError as error:
            why = str(error)
            return "mute", lambda seconds: f"ovn-controller doesn't answer for {seconds:.0f} s: {why}", PATIENCE
        if status == "connected":
            return None
        return (
            "apart",
            lambda seconds: f"ovn-controller isn't connected to the southbound for {seconds:.0f} s",
            LOCAL_PATIENCE,
        )

    # -- raising nb_cfg ---------------------------------------------------------------------------------------

    def _raise_if_due(self, runtime: Runtime, now: float) -> None:
        seen = runtime.get(NB_PROGRESS, NORTHBOUND)
        if seen is None or seen.sb_cfg < seen.nb_cfg:
            return
        if self._has_vanished() or now - self._raised >= RAISE_PERIOD:
            self._raised = now
            runtime.increment("nb", "NB_Global", "nb_cfg")

    def _has_vanished(self) -> bool:
        """Whether a northd that answered on this machine at the last look does no more."""
        before, self._northd_here = self._northd_here, bool(self._northd_answers())
        self._northd_seen |= self._northd_here
        return before and not self._northd_here

    def _northd_answers(self) -> bool | None:
        """Whether northd answers on this machine; None where it has never been seen here."""
        if not appctl.sockets(self._run_dir, "ovn-northd"):
            return False if self._northd_seen else None
        try:
            appctl.ask(self._run_dir, "ovn-northd", "status")
        except appctl.NotRunningError:
            return False
        except appctl.SilentError:
            return None
        return True

    # -- what others ask --------------------------------------------------------------------------------------

    def problems(self) -> Mapping[str, str]:
        """What is wrong here, for /readyz: with the zone's northd, and with the ovn-controller of this node.

        Of a central zone's other nodes it is no reason for this process not to be ready.
        """
        now, own = self._clock(), controller(self._scope.node or self._scope.zone)
        with self._lock:
            dead = {key: watch for key, watch in self._watches.items() if watch.told}
        return {
            key.partition("/")[0]: watch.text(watch.seconds(now))
            for key, watch in dead.items()
            if key in (NORTHD, own)
        }

    def metrics(self) -> Iterable[Metric]:
        """Who works, and the numbers."""
        with self._lock:
            works = {key: not watch.told for key, watch in self._watches.items()}
        samples = tuple(
            Sample(float(up), {"daemon": key.partition("/")[0], "node": key.partition("/")[2]})
            for key, up in sorted(works.items())
        )
        if samples:
            text = "1 while a daemon of OVN does its work."
            yield Metric("ovn_daemon_works", text, MetricKind.GAUGE, samples)
        seen = self._runtime.get(NB_PROGRESS, NORTHBOUND) if self._runtime is not None else None
        if seen is not None:
            for name in ("nb_cfg", "sb_cfg", "hv_cfg"):
                text = f"{name} of NB_Global: see ovn-nb(5)."
                yield Metric(name, text, MetricKind.GAUGE, (Sample(float(getattr(seen, name))),))


_Found = tuple[object, Callable[[float], str], float]
"""What a daemon is stuck at, how that is told with the seconds, and after how many it is told."""


def _database(runtime: Runtime, key: str) -> _Found | None:
    """A database of the zone, as this process's own connection shows it."""
    db, name = _DATABASES[key]
    why = runtime.disconnected(db)
    if not why:
        return None
    return (
        "apart",
        lambda seconds: f"the {name} database doesn't answer for {seconds:.0f} s: {why}",
        LOCAL_PATIENCE,
    )


def _controller(runtime: Runtime, node: str) -> _Found | None:
    """A node's ovn-controller as the southbound shows it."""
    if _database(runtime, SOUTHBOUND_SERVER):
        return None
    view, asked = runtime.get(NODES, node), runtime.get(SB_PROGRESS, SOUTHBOUND)
    chassis = view.annotations.get(CHASSIS_ID, "") if view is not None else ""
    if not chassis or asked is None:
        return None
    found = runtime.get(CHASSIS_PROGRESS, chassis)
    if found is None:
        text = f"ovn-controller of {node} has not registered chassis {chassis} in the southbound for"
        return chassis, lambda seconds: f"{text} {seconds:.0f} s", PATIENCE
    if found.nb_cfg >= asked.nb_cfg:
        return None
    text = (
        f"ovn-controller of {node} doesn't answer: southbound nb_cfg {asked.nb_cfg}, its nb_cfg {found.nb_cfg} for"
    )
    return found.nb_cfg, lambda seconds: f"{text} {seconds:.0f} s", PATIENCE
