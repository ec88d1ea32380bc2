"""How one zone of many grows with the cluster: a process for one node of clusters of several sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import load as loads
from bench.load import Load
from bench.report import Row
from bench.rig import Rig

PODS_PER_NODE = 100


def zone_scale(sizes: Sequence[int]) -> Iterator[Row]:
    """Seconds and CPU of a first start and memory of the process of one zone, for each number of nodes."""
    for size in sizes:
        load = Load(f"{size} nodes", nodes=size, pods=size * PODS_PER_NODE, policies=0, services=200)
        with tempfile.TemporaryDirectory(prefix="ovnkit-bench-") as folder:
            rig = Rig(Path(folder), load)
            try:
                rig.fill()
                patches = [
                    (
                        "PATCH",
                        f"/api/v1/nodes/node-{index}",
                        {"metadata": loads.node(index, "node-{index}")["metadata"]},
                        "application/merge-patch+json",
                    )
                    for index in range(size)
                ]
                rig.api.many(patches)
                run = rig.start(zone="node-0", roles=("zone",))
                listing, _ = rig.api.list_all()
            finally:
                rig.close()
        note = f"{PODS_PER_NODE} pods per node; {run.rows} rows"
        yield Row(load.name, "zone scale, first start", run.seconds, "s", listing, note="floor: listing")
        yield Row(load.name, "zone scale, CPU", run.usage.cpu, "s", note=note)
        yield Row(load.name, "zone scale, memory", run.usage.memory, "MB", note=note)
