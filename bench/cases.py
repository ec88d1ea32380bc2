"""The cases of the table, in the order in which one prepares the other."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench import load as loads
from bench.latencies import Changes, Floors, p50, p99
from bench.load import Load
from bench.peer import UPSTREAM
from bench.rawapi import MERGE, Request
from bench.rawdb import Database, Operation, Replay, differing
from bench.report import Row
from bench.rig import ApiProcess, Rig, Run

PEER = Load("peer", nodes=50, pods=2_500, policies=250, services=500, apps=250)
"""The load for which upstream's figures are known."""
PATCHED = 2000
"""Pods on which the floor of annotation patches is measured, for each concurrency a quarter; then scaled."""


class Cases:
    """All cases on one load. `quick` does fewer single changes and a short idle."""

    def __init__(self, folder: Path, load: Load, *, repeat: int, quick: bool) -> None:
        self.load, self._repeat, self._folder, self._quick = load, repeat, folder, quick
        self._single = 20 if quick else 200
        self._few = 10 if quick else 50
        self._burst = min(load.pods, 200 if quick else 500 if load.name == "peer" else 1000)
        self._idle = 3.0 if quick else 60.0
        self.rig = Rig(folder, load)
        self.changes = Changes(self.rig)

    def close(self) -> None:
        """End all processes."""
        self.rig.close()

    def run(self, only: tuple[str, ...] = ()) -> Iterator[Row]:
        """All rows; of those after the starts `only` keeps these groups (pods, policies, endpoints, idle)."""
        self.rig.fill()
        yield from self._starts()
        groups = {
            "pods": self._pods,
            "policies": self._policies,
            "endpoints": self._endpoints,
            "idle": self._idle_rows,
        }
        for name, group in groups.items():
            if not only or name in only:
                yield from group()

    def _row(
        self,
        case: str,
        value: float,
        unit: str,
        floor: float | None = None,
        budget: float | None = None,
        note: str = "",
    ) -> Row:
        upstream = UPSTREAM.get(case) if self.load == PEER else None
        return Row(self.load.name, case, value, unit, floor, budget, note, upstream)

    # -- starts -------------------------------------------------------------------------------------------

    def _starts(self) -> Iterator[Row]:
        first = self.rig.start()
        self._check(first)
        self.rig.stop()
        cold = self._cold()
        listing = statistics.median(self._list() for _ in range(self._repeat))
        source = Database(self.rig.database.socket)
        rows, reading = source.read()
        reading = statistics.median([reading, *(source.read()[1] for _ in range(self._repeat - 1))])
        writing = self._write(rows)
        patch, best = self._patches()
        restarts = self._restarts()
        seconds = statistics.median(run.seconds for run in cold)
        # a load so small is mostly the start of the interpreter: counted, a busy machine doesn't change the ratios
        bare = _bare_start() if self._quick else 0.0
        floor = bare + listing + writing
        note = f"listing {listing:.2f} s + writing {writing:.2f} s; " + _did(cold[-1])
        yield self._row("cold start", seconds, "s", floor, 3.0, note)
        note = f"and {self.load.pods} patches of {patch * 1e3:.2f} ms with {best} connections; " + _did(first)
        yield self._row("first start", first.seconds, "s", floor + patch * self.load.pods, 1.5, note)
        yield from self._cost("first start", first)
        seconds = statistics.median(run.seconds for run in restarts)
        note = "floor: reading the tables; " + _did(restarts[-1])
        yield self._row("restart", seconds, "s", bare + reading, 3.0, note)
        yield self._row(
            "restart, listing counted", seconds, "s", bare + listing + reading, None, "floor: and listing"
        )
        yield from self._cost("restart", restarts[-1])
        written = max(run.transactions + run.patches for run in restarts)
        yield self._row("restart, transactions and patches", written, "", None, 0.0)
        usage = restarts[-1].usage
        yield self._row("memory, restarted", usage.memory, "MB", None, 250.0, f"peak {usage.peak:.0f} MB")

    def _cost(self, case: str, run: Run) -> Iterator[Row]:
        yield self._row(f"{case}, transactions", run.transactions, "")
        yield self._row(f"{case}, rows", run.rows, "")
        yield self._row(f"{case}, CPU", run.usage.cpu, "s")
        yield self._row(f"{case}, peak memory", run.usage.peak, "MB")

    def _list(self) -> float:
        """Seconds of listing everything; RuntimeError when that isn't everything."""
        seconds, counts = self.rig.api.list_all()
        asked = Counter(loads.collection_of_all(item) for item in loads.everything(self.load))
        if short := {path: count for path, count in asked.items() if counts[path] < count}:
            raise RuntimeError(f"listed {counts}, but there are {short}")
        return seconds

    def _check(self, run: Run) -> None:
        """Raise RuntimeError when the northbound doesn't hold what the load asks for."""
        found = Database(self.rig.database.socket).read("Logical_Switch_Port", "Load_Balancer", "ACL")[0]
        have = {table: len(rows) for table, rows in found.items()}
        policies = self.load.policies if any("network_policy" in str(item) for item in run.state["plugins"]) else 0
        if (
            have["Logical_Switch_Port"] < self.load.pods
            or have["Load_Balancer"] < self.load.services
            or have["ACL"] < policies
        ):
            raise RuntimeError(f"ready, but the northbound has {have} for {self.load}")

    def _cold(self) -> list[Run]:
        runs = []
        for _ in range(self._repeat):
            self.rig.replace_database()
            runs.append(self.rig.start())
            self._check(runs[-1])
            self.rig.stop()
        return runs

    def _restarts(self) -> list[Run]:
        """The last one keeps running."""
        runs = []
        for number in range(self._repeat):
            runs.append(self.rig.start())
            if number < self._repeat - 1:
                self.rig.stop()
        return runs

    def _write(self, rows: dict[str, list[Operation]]) -> float:
        """Seconds of writing these rows; the last copy stays for the floors."""
        times = []
        for _ in range(self._repeat):
            server = self.rig.fresh()
            self._copy = Database(server.socket)
            times.append(self._copy.write(Replay(self._copy.schema, rows).batches()))
            if bad := differing(rows, self._copy.read()[0]):
                raise RuntimeError(f"{len(bad)} rows of the copy are not as in the northbound")
            if len(times) < self._repeat:
                server.stop()
        self._floors = Floors(self.rig, self._copy, rows)
        return statistics.median(times)

    def _patches(self) -> tuple[float, int]:
        """Seconds of one annotation patch at the best concurrency, on a server of its own."""
        server = ApiProcess(self._folder / "patched")
        try:
            count = min(PATCHED, self.load.pods)
            pods = [loads.pod(index, self.load) for index in range(count)]
            server.api.many([_create(item) for item in loads.namespaces()])
            server.api.many([_create(pod) for pod in pods])

            def make(attempt: int) -> list[Request]:
                patch = {"metadata": {"annotations": {"k8s.ovn.org/pod-networks": f"{attempt}" * 300}}}
                return [("PATCH", loads.path(pod), patch, MERGE) for pod in pods[attempt::4]]

            return server.api.best(make)
        finally:
            server.stop()

    # -- changes ------------------------------------------------------------------------------------------

    def _pair(self, case: str, took: list[float], floor: list[float], note: str = "") -> Iterator[Row]:
        yield self._row(f"{case}, p50", p50(took) * 1e3, "ms", p50(floor) * 1e3, 2.0, note)
        yield self._row(f"{case}, p99", p99(took) * 1e3, "ms", p99(floor) * 1e3, 4.0)

    def _pods(self) -> Iterator[Row]:
        events, patches, writes = self._floors.pods(self._single)
        annotated, committed = self.changes.pods(self._single)
        floor = [sum(parts) for parts in zip(events, patches, writes, strict=True)]
        parts_ms = [p50(part) * 1e3 for part in (events, patches, writes)]
        note = "event {:.1f} + patch {:.1f} + transaction {:.1f} ms".format(*parts_ms)
        yield from self._pair("pod to annotation", annotated, floor, note)
        yield from self._pair("pod to port", committed, floor)
        raw = statistics.median(self._floors.burst(self._burst) for _ in range(1))
        took = statistics.median(self.changes.burst(self._burst, f"burst{n}") for n in range(self._repeat))
        yield self._row(f"burst of {self._burst} pods", took, "s", raw, 3.0)

    def _policies(self) -> Iterator[Row]:
        if not Database(self.rig.database.socket).read("ACL")[0]["ACL"]:
            return
        selected = min(2000, self.load.pods)
        floor = self._floors.policies(self._few, selected)
        if self.load == PEER:
            first, last = self.changes.own_policies(self._few)
            for share, part in (("p50", p50), ("p99", p99)):
                yield self._row(f"policy to first ACL, {share}", part(first) * 1e3, "ms")
                yield self._row(f"policy to last row, {share}", part(last) * 1e3, "ms")
        self.changes.big_app(selected)
        yield from self._pair(
            "policy to ACLs", self.changes.policies(self._few), floor, f"{selected} pods selected"
        )

    def _endpoints(self) -> Iterator[Row]:
        many = min(1000, self.load.services)
        few = min(self._few, many)
        # the measured process sees the floor's updates as well: it is let come to rest in between
        floor = self._floors.endpoints(few, self.changes, 1)
        self.rig.settle()
        yield from self._pair("endpoints to load balancer", self.changes.endpoints(few, 2), floor)
        took = self.changes.services(few)
        yield self._row("service to load balancer, p50", p50(took) * 1e3, "ms")
        yield self._row("service to load balancer, p99", p99(took) * 1e3, "ms")
        raw = self._floors.endpoint_burst(many, self.changes, 3)
        time.sleep(0.5)
        self.rig.settle()
        burst = self.changes.endpoint_burst(many, 4)
        yield self._row(f"{many} endpoint updates at once", burst, "s", raw, 3.0)

    def _idle_rows(self) -> Iterator[Row]:
        self.rig.settle()
        pid = self.rig.pid
        before = self.rig.usage_of(pid)
        time.sleep(self._idle)
        after = self.rig.usage_of(pid)
        share = 100 * (after.cpu - before.cpu) / self._idle
        yield self._row("idle", share, "%", None, 1.0, f"of a core, over {self._idle:.0f} s")
        yield self._row("memory, after all this", after.memory, "MB", None, 250.0, f"peak {after.peak:.0f} MB")


def _create(manifest: loads.Manifest) -> Request:
    return "POST", loads.collection(manifest), manifest, "application/json"


def _bare_start() -> float:
    """Seconds of starting a Python that imports what ovnkit does."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ovnkit.process.run"], check=True)
    return time.monotonic() - start


def _did(run: Run) -> str:
    usage = run.usage
    return (
        f"{run.transactions} transactions, {run.rows} rows, {run.patches} patches, CPU {usage.cpu:.1f} s,"
        f" peak {usage.peak:.0f} MB"
    )
