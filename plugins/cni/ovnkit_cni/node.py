"""Pods whose port was lost and can't be restored: they are told by an Event, and counted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope, Tell
from ovnkit.api.items import Ask
from ovnkit.api.kinds import Answers, Kind
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit.api.models import PODS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.pod_addresses import has_own_network


@frozen
class LostPort:
    """A pod without a port on the integration bridge; `message` says why it can't be restored."""

    pod: str
    message: str

    @property
    def key(self) -> str:
        """The pod's key."""
        return self.pod


LOST_PORTS: Kind[LostPort] = Kind("lost-pod-ports", Answers(), lambda raw: LostPort(**raw))


class LostPorts:
    """The pods of this node that have lost their port. Safe from any thread."""

    kind = LOST_PORTS

    def __init__(self, tell: Tell) -> None:
        self.restored = 0
        """Ports that were lost and restored."""
        self._tell = tell
        self._lost: dict[str, LostPort] = {}
        self._lock = threading.Lock()

    def say(self, pod: str, message: str) -> None:
        """A pod has lost its port."""
        lost = LostPort(pod, message)
        with self._lock:
            if self._lost.get(pod) == lost:
                return
            self._lost[pod] = lost
        self._tell(LOST_PORTS, [(pod, lost)])

    def withdraw(self, pod: str) -> None:
        """It has one again, or needs none."""
        with self._lock:
            if self._lost.pop(pod, None) is None:
                return
        self._tell(LOST_PORTS, [(pod, None)])

    def ask(self, keys: Collection[str]) -> None:
        """Tell what is known of these pods."""
        with self._lock:
            found = [(key, self._lost[key]) for key in keys if key in self._lost]
        if found:
            self._tell(LOST_PORTS, found)

    def drop(self, keys: Collection[str]) -> None:
        """Nothing to do: what nobody asks for is ignored."""

    def stop(self) -> None:
        """Nothing to do."""

    def metrics(self) -> Iterable[Metric]:
        """How many are lost, and how many were restored."""
        with self._lock:
            lost = len(self._lost)
        about = "pods of this node whose port is lost and can't be restored"
        yield Metric("lost_ports", about, MetricKind.GAUGE, (Sample(lost),))
        about = "ports of running pods that someone else changed or removed, and that were restored"
        yield Metric("restored_ports", about, MetricKind.COUNTER, (Sample(self.restored),))


@frozen
class LostPortEvents:
    """Role node: an Event on each pod of the node that has lost its port."""

    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render per pod of the node."""
        yield Renderer("lost-port", Role.NODE, self.render, each=self._own_pods, subject=PODS)

    def _own_pods(self, world: World) -> Iterable[str]:
        return world.keys(PODS, "node", self.scope.node)

    def render(self, world: World, key: str) -> Iterable[Ask]:
        """The question; Reject when the answer is that the port is lost."""
        pod = world.get(PODS, key)
        if pod is None or not has_own_network(pod):
            return
        yield Ask(LOST_PORTS, key)
        lost = world.get(LOST_PORTS, key)
        if lost is not None:
            raise Reject(lost.message, reason="PortLost")
