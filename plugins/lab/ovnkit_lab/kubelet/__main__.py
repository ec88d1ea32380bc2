"""The kubelets of all nodes of a lab, in one process: `python -m ovnkit_lab.kubelet LAB`."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from kubelab.client import Informer
from ovnkit_lab import control_plane, layout, pki
from ovnkit_lab.kubelet.cni import Runtime
from ovnkit_lab.kubelet.nodes import NodeReporter
from ovnkit_lab.kubelet.pods import NodeContext, PodWorker
from ovnkit_lab.kubelet.processes import Reaper
from ovnkit_lab.kubelet.supervisor import Supervisor
from ovnkit_lab.layout import Files, LabSpec


class Kubelets:
    """Runs all pods of a lab, with a worker for each."""

    def __init__(self, spec: LabSpec) -> None:
        files = Files(spec.name)
        client = control_plane.client(spec, pki.AGENT, on_machine=False)
        reaper = Reaper()
        self._lock = threading.Lock()
        self._workers: dict[str, PodWorker] = {}
        self._uids: dict[str, str] = {}
        self._nodes: dict[str, NodeContext] = {}
        for node in spec.nodes:
            cni = Runtime(spec.netns(node), files.cni_conf(node), files.cni_bin(node))
            is_up = _up_check(files.down_marker(node))
            addresses = tuple(str(item.ip) for item in spec.addresses(node))
            self._nodes[node] = NodeContext(
                spec, node, client, cni, reaper, is_up, files.pods, files.log(node), addresses
            )
            NodeReporter(spec, node, client, cni, is_up, partial(self._came_up, node)).start()
        self._pods = Informer(client, "/api/v1/pods", self._changed)

    def _changed(self, key: str) -> None:
        pod: dict[str, Any] | None = self._pods.get(key)
        with self._lock:
            uid = pod["metadata"]["uid"] if pod else ""
            known = self._uids.get(key)
            if known and known != uid and known in self._workers:
                self._workers[known].update(None)
            if pod is None:
                self._uids.pop(key, None)
                return
            context = self._nodes.get(pod["spec"].get("nodeName") or "")
            if context is None:
                return
            self._uids[key] = uid
            if uid in self._workers:
                self._workers[uid].update(pod)
                return
            worker = self._workers[uid] = PodWorker(context, pod, self._done)
        worker.start()

    def _came_up(self, node: str) -> None:
        with self._lock:
            workers = [worker for worker in self._workers.values() if worker.node == node]
        for worker in workers:
            worker.wake()

    def _done(self, uid: str) -> None:
        with self._lock:
            self._workers.pop(uid, None)


def _up_check(marker: Path) -> Any:
    return lambda: not marker.exists()


def main() -> None:
    """Run the kubelets until killed."""
    spec = layout.load(sys.argv[1])
    threading.stack_size(512 * 1024)
    kubelets = Kubelets(spec)
    supervisor = Supervisor(spec.name)
    while kubelets:
        time.sleep(1.0)
        supervisor.sync()


if __name__ == "__main__":
    main()
