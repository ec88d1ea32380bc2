"""Ports of running pods stay as they are to be: what someone else changes or removes is restored."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

import structlog
from attrs import define, field
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.backoff import Backoff
from ovnkit.api.errors import OvnkitError
from ovnkit.api.hooks import Runtime
from ovnkit.api.models import PODS, Pod
from ovnkit_cni import bandwidth, netns, ports
from ovnkit_cni.attachments import RECORD, Attachment, Mark, attachment_of, netns_id
from ovnkit_cni.commands import Commands
from ovnkit_cni.node import LostPorts
from ovnkit_cni.pods import network_of
from ovnkit_cni.switch import Switch
from ovnkit_cni.wire import INTERNAL, CniError

log = structlog.get_logger(plugin="cni")

PERIOD = 2.0
"""Seconds between two looks at all ports; a change that Open vSwitch tells of is looked at sooner."""
PATIENCE = 5.0
"""Seconds until a pod is told: a runtime may remove the network namespace of a pod shortly before it says DEL."""
_TOGETHER = 0.2
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0


@define
class _Failing:
    """A port that isn't as it is to be: since when, and when to try (again)."""

    pod: str
    since: float
    next: float
    backoff: Backoff = field(factory=lambda: Backoff(_FIRST_DELAY, _LONGEST_DELAY, jitter=0))


class Keeper:
    """Watches over the ports of running pods in a thread of its own."""

    def __init__(self, runtime: Runtime, commands: Commands, lost: LostPorts) -> None:
        self._runtime = runtime
        self._commands = commands
        self._lost = lost
        self._learned = False
        self._woken = threading.Event()
        self._failures: dict[str, _Failing] = {}
        self._thread = threading.Thread(target=self._run, name="cni-keeper", daemon=True)

    def start(self) -> None:
        """Start; it ends with the commands' `stopping`."""
        self._thread.start()

    def _run(self) -> None:
        while not self._commands.stopping.is_set():
            try:
                self.look()
            except Exception as error:
                log.warning("looking after the ports of pods failed", error=str(error))
            self._woken.wait(PERIOD)
            # What is done in several steps is looked at when it is done.
            self._commands.stopping.wait(_TOGETHER)
            self._woken.clear()

    def look(self) -> None:
        """Look at all ports once, and restore what is amiss."""
        switch = self._commands.switch()
        if not self._learned:
            switch.on_change = self._woken.set
            self._learn(switch)
            self._learned = True
        now = time.monotonic()
        kept = dict(switch.kept)
        for name in self._failures.keys() - kept.keys():
            self._over(name)
        there = ports.names(switch) if kept else ()
        for name, port in kept.items():
            fault = _fault(switch, port, there)
            if not fault:
                self._over(name)
                continue
            failure = self._failures.setdefault(name, _Failing(port.pod[0], now, now))
            if not self._is_wanted(port):
                self._lost.withdraw(failure.pod)
                if switch.interface(name) is None and self._pod(*port.pod) is None:
                    switch.kept.pop(name, None)
            elif now >= failure.next:
                failure.next = now + failure.backoff.next()
                self._mend(switch, port, failure, fault)

    def _over(self, name: str) -> None:
        failure = self._failures.pop(name, None)
        if failure is not None:
            self._lost.withdraw(failure.pod)

    def _is_wanted(self, port: ports.PodPort) -> bool:
        """Whether the pod runs; one that is going, or has no sandbox (after a reboot), has no use for its port."""
        pod = self._pod(*port.pod)
        return pod is not None and pod.sandbox_ready and not pod.deleting and not pod.completed

    def _pod(self, key: str, uid: str) -> Pod | None:
        pod = self._runtime.get(PODS, key)
        return pod if pod is not None and pod.uid == uid else None

    def _mend(self, switch: Switch, port: ports.PodPort, failure: _Failing, fault: str) -> None:
        message = f"port {port.name} of the pod was lost: {fault}"
        try:
            with self._commands.turn(port.external_ids["sandbox"], 0.0):
                if switch.kept.get(port.name) is not port:
                    return  # unplugged, or plugged again, meanwhile
                self._restore(switch, port)
            self._lost.restored += 1
            log.warning("restored the port of a pod", kind="Pod", pod=failure.pod, port=port.name, fault=fault)
        except (OvnkitError, NetlinkError, OSError) as error:
            message = f"{message}; it can't be restored: {error}"
            log.warning("the port of a pod can't be restored", kind="Pod", pod=failure.pod, error=message)
        if time.monotonic() - failure.since >= PATIENCE:
            self._lost.say(failure.pod, message)

    def _restore(self, switch: Switch, port: ports.PodPort) -> None:
        attachment = attachment_of(port.ids)
        assert attachment is not None
        found = switch.interface(port.name)
        index = netns.index_of(port.name)
        if found is not None and found.ifindex not in (0, index):
            ports.close(switch, port)
        if not netns.is_there(attachment):
            self._plug_again(switch, port, attachment)
        elif found is not None and found.is_down:
            netns.set_up(port.name)
        ports.restore(switch, port)
        ports.collect_limits(switch)

    def _plug_again(self, switch: Switch, port: ports.PodPort, attachment: Attachment) -> None:
        """Make the interface anew that was deleted, in the network namespace where it was."""
        plugged = port.plugged
        if plugged is None:
            raise CniError(INTERNAL, "its network namespace isn't recorded")
        if not plugged.netns_id or netns_id(plugged.netns) != plugged.netns_id:
            raise CniError(INTERNAL, f"network namespace {plugged.netns} is gone")
        key, uid = port.pod
        wanted = netns.Plug(
            Mark(attachment.sandbox, attachment.ifname, attachment.network, uid, key),
            plugged.netns,
            plugged.network,
            plugged.mtu,
            plugged.route_mtu,
            checksums=not switch.userspace,
        )
        ports.close(switch, port)
        netns.plug(wanted)

    # -- at the start -----------------------------------------------------------------------------------------

    def _learn(self, switch: Switch) -> None:
        """The ports that an earlier process made, and those that were removed while there was none."""
        for port in ports.pod_ports(switch):
            switch.kept.setdefault(port.name, port)
        for mark in netns.marks():
            missing = self._missing(switch, mark)
            if missing is not None:
                switch.kept.setdefault(missing.name, missing)
        ports.collect_limits(switch)

    def _missing(self, switch: Switch, mark: Mark) -> ports.PodPort | None:
        """The port that the interface of a running pod lacks."""
        name = netns.host_name(mark.sandbox)
        if switch.interface(name) is not None:
            return None
        pod = self._pod(mark.pod, mark.uid)
        network = network_of(pod)
        if pod is None or network is None:
            return None
        ids = ports.interface_ids(mark, network)
        if any(switch.interface(other) is not None for other in switch.names(ids["iface-id"])):
            return None  # the pod has a newer sandbox
        try:
            limits = bandwidth.of_pod(pod.annotations)
        except CniError:
            limits = bandwidth.Bandwidth()
        record = {f"{RECORD}network": mark.attachment.network}
        return ports.PodPort(name, ids, limits, record)


def _fault(switch: Switch, port: ports.PodPort, there: Collection[str]) -> str:
    """What is wrong with a port; empty when it is as it is to be. `there` are those on the integration bridge."""
    found = switch.interface(port.name)
    if found is None or port.name not in there:
        return "someone else removed it from the integration bridge"
    index = netns.index_of(port.name)
    if not index:
        return "its interface was deleted"  # with the userspace datapath Open vSwitch doesn't say so
    if found.ifindex not in (0, index):
        return "its interface was replaced"
    if found.is_down:
        return "its interface was set down"
    if found.ofport == -1:
        return f"Open vSwitch can't use its device: {found.error}"
    ids = switch.ids(port.name)
    changed = sorted(key for key, value in port.ids.items() if ids.get(key) != value)
    return f"its external_ids {', '.join(changed)} were changed" if changed else ""
