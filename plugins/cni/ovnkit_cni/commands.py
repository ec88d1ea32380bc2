"""The commands of the CNI: what the server does for a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.errors import Reject, Retry
from ovnkit.api.hooks import PodInterface, Runtime
from ovnkit.api.models import NODES, PODS, Pod
from ovnkit.api.nodenetwork import NODE_SUBNETS, parse_node_subnets
from ovnkit.api.ovndaemons import NORTHD, OVN_DAEMONS, controller
from ovnkit.api.podnetwork import ANNOTATION, PodNetwork, parse
from ovnkit_cni import bandwidth, netns, ports
from ovnkit_cni.result import make_result
from ovnkit_cni.switch import BRIDGE, Switch
from ovnkit_cni.wire import (
    BAD_POD,
    CHECK_FAILED,
    DECODE_FAILURE,
    INTERNAL,
    INVALID_CONFIG,
    NOT_AVAILABLE,
    TRY_AGAIN,
    UNKNOWN_CONTAINER,
    VERSIONS,
    CniError,
    Request,
)

log = structlog.get_logger(plugin="cni")

FIND_POD = 1.0
"""Seconds to look for a pod that the API server does not know yet, as upstream."""
PLUGGING = 2
"""How many requests make interfaces at a time: the kernel makes one, and more only fight over the interpreter."""
_ASK_AGAIN = 0.2
_LOOK_AROUND = 1.0
"""Seconds after which a waiting ADD looks whether its pod is still wanted."""
_MIRROR = "kubernetes.io/config.mirror"


class Commands:
    """Carries out requests. Safe from any thread: requests for one sandbox take turns."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.stopping = threading.Event()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}
        self._turns_lock = threading.Lock()
        self._switch = Switch()
        self._plugging = threading.BoundedSemaphore(PLUGGING)

    def run(self, request: Request) -> dict[str, Any] | None:
        """The result object of a request, None when it has none. Raises CniError."""
        commands = {"ADD": self.add, "DEL": self.delete, "CHECK": self.check}
        try:
            if request.command in commands:
                with self._turn(request):
                    return commands[request.command](request)
            if request.command == "GC":
                self.collect(request)
                return None
            if request.command == "STATUS":
                self.status()
                return None
            return {"cniVersion": request.version, "supportedVersions": list(VERSIONS)}
        except Retry as error:
            raise CniError(TRY_AGAIN, error.message) from error

    @contextmanager
    def _turn(self, request: Request) -> Iterator[None]:
        with self._turns_lock:
            lock, users = self._turns.get(request.sandbox, (threading.Lock(), 0))
            self._turns[request.sandbox] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=request.left):
                raise CniError(TRY_AGAIN, f"an earlier request for sandbox {request.sandbox} has not ended")
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._turns_lock:
                lock, users = self._turns.pop(request.sandbox)
                if users > 1:
                    self._turns[request.sandbox] = (lock, users - 1)

    def switch(self) -> Switch:
        """The node's Open vSwitch; raises CniError when it can't be reached."""
        try:
            ovs = self.runtime.ovs()
        except Retry:
            raise
        except Exception as error:
            raise CniError(TRY_AGAIN, f"Open vSwitch can't be reached: {error}") from error
        return self._switch.follow(ovs)

    # -- ADD --------------------------------------------------------------------------------------------------

    def add(self, request: Request) -> dict[str, Any]:
        """Plug a pod; what was done is undone when it fails."""
        pod, network = self._await_network(request)
        limits = bandwidth.of_pod(pod.annotations)
        switch = self.switch()
        plug = self._plug(request, network, switch)
        interface = PodInterface(
            pod,
            network.ip_addresses,
            network.mac_address,
            tuple(str(gateway) for gateway in network.gateway_ips),
            tuple((str(destination), str(hop or "")) for destination, hop in network.routes),
            plug.mtu,
        )
        other = self.runtime.hooks.first(
            "ovnkit_plug_pod", runtime=self.runtime, interface=interface, request=request
        )
        if other is not None:
            return dict(other[1])
        host_mac = self._make(request, pod, plug, limits, switch)
        result = make_result(request.version, plug, host_mac)
        self.runtime.hooks.each("ovnkit_cni_result", interface=interface, result=result)
        return result

    def _make(
        self, request: Request, pod: Pod, plug: netns.Plug, limits: bandwidth.Bandwidth, switch: Switch
    ) -> str:
        """Make interface and port and wait for the flows; the MAC address of the node's end."""
        network = plug.network
        port = ports.PodPort(
            plug.host_name,
            {
                "attached_mac": network.mac_address,
                "iface-id": f"{request.namespace}_{request.pod}",
                "iface-id-ver": pod.uid,
                "sandbox": request.sandbox,
                "pod-if-name": request.ifname,
                "ip_addresses": ",".join(str(address) for address in network.ip_addresses),
            },
            limits,
        )
        ports.remove_sandbox(switch, request.sandbox, request.ifname)
        host_mac = self._make_interface(request, plug)
        try:
            with self._switch.changes(port.name) as changed:
                ports.add(switch, port)
                self._await_installed(request, plug, port, switch, changed)
        except BaseException:
            self._undo(request, switch)
            raise
        return host_mac

    def _make_interface(self, request: Request, plug: netns.Plug) -> str:
        if not self._plugging.acquire(timeout=request.left):
            raise CniError(TRY_AGAIN, f"interface {request.ifname} of {request.pod_key}: others take too long")
        try:
            return netns.plug(plug)
        except (NetlinkError, OSError) as error:
            raise CniError(INTERNAL, f"making interface {request.ifname} of {request.pod_key}: {error}") from error
        finally:
            self._plugging.release()

    def _undo(self, request: Request, switch: Switch) -> None:
        for undo in (
            lambda: ports.remove_sandbox(switch, request.sandbox, request.ifname),
            lambda: netns.unplug(request.sandbox, known=True),
        ):
            try:
                undo()
            except Exception as error:
                log.warning(
                    "cleaning up a failed ADD", pod=request.pod_key, sandbox=request.sandbox, error=str(error)
                )

    def _plug(self, request: Request, network: PodNetwork, switch: Switch) -> netns.Plug:
        defaults = self.runtime.config.default
        return netns.Plug(
            request.sandbox,
            request.netns,
            request.ifname,
            network,
            request.config.get("mtu") or defaults.mtu,
            defaults.routable_mtu,
            checksums=not switch.userspace,
        )

    # -- the pod ----------------------------------------------------------------------------------------------

    def _find_pod(self, request: Request) -> Pod:
        """The pod, from the cache or the API server; it may take a moment until it is seen."""
        deadline = time.monotonic() + FIND_POD
        while True:
            pod = self.runtime.get(PODS, request.pod_key)
            if pod is None or not _same(pod, request):
                pod = self._ask(request)
            if pod is not None and _same(pod, request):
                return pod
            if time.monotonic() >= deadline or self.stopping.wait(_ASK_AGAIN):
                break
        if pod is None:
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} does not exist")
        raise CniError(
            UNKNOWN_CONTAINER, f"pod {request.pod_key} has UID {pod.uid}, the request is for {request.uid}"
        )

    def _ask(self, request: Request) -> Pod | None:
        """The pod as the API server has it now; raises CniError when it can't be asked."""
        try:
            pod: Pod | None = self.runtime.refresh(PODS, request.pod_key)
        except Retry:
            raise
        except Exception as error:
            raise CniError(TRY_AGAIN, f"pod {request.pod_key} can't be looked up: {error}") from error
        return pod

    def _await_network(self, request: Request) -> tuple[Pod, PodNetwork]:
        """The pod, once it has an address on the default network."""
        pod = self._find_pod(request)
        while True:
            try:
                network = parse(pod.annotations.get(ANNOTATION))
            except Reject as error:
                raise CniError(BAD_POD, f"pod {request.pod_key}: {error.message}") from None
            if network is not None:
                self._check_own(request, network)
                return pod, network
            pod = self._await_change(request)

    def _check_own(self, request: Request, network: PodNetwork) -> None:
        """Raise CniError when an address isn't of this node: written by hand, it will never be reached."""
        node = self.runtime.get(NODES, self.runtime.scope.node)
        try:
            subnets = parse_node_subnets(node.annotations[NODE_SUBNETS]) if node is not None else ()
        except (KeyError, ValueError):
            return  # said where nodes are read, and mended there
        for address in network.ip_addresses:
            if subnets and not any(address.ip in subnet for subnet in subnets):
                raise CniError(
                    BAD_POD,
                    f"pod {request.pod_key}: annotation {ANNOTATION}: {address} is not in a subnet of node "
                    f"{self.runtime.scope.node} ({', '.join(map(str, subnets))})",
                )

    def _await_change(self, request: Request) -> Pod:
        def changed(view: Pod | None) -> bool:
            # None before the cache has seen the pod at all is no deletion; refresh() will tell in that case.
            return view is not None and (not _same(view, request) or ANNOTATION in view.annotations)

        try:
            view = self.runtime.wait_for(PODS, request.pod_key, min(request.left, _LOOK_AROUND), changed)
        except TimeoutError:
            if self.stopping.is_set():
                raise CniError(TRY_AGAIN, "the CNI server is stopping") from None
            view = self.runtime.get(PODS, request.pod_key) or self._ask(request)
        if view is None or not _same(view, request):
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted") from None
        if not request.left and ANNOTATION not in view.annotations:
            raise CniError(
                TRY_AGAIN, f"pod {request.pod_key} has no annotation {ANNOTATION}: no address was assigned to it"
            )
        return view

    def _await_installed(
        self,
        request: Request,
        plug: netns.Plug,
        port: ports.PodPort,
        switch: Switch,
        changed: threading.Event,
    ) -> None:
        """Return when ovn-controller has installed the port's flows; raises CniError when it is in vain."""
        while True:
            changed.clear()
            found = switch.interface(port.name)
            if found is None or found.external_ids.get("iface-id") != port.iface_id:
                raise CniError(TRY_AGAIN, f"port {port.name} of pod {request.pod_key} was taken off the bridge")
            if found.external_ids.get("ovn-installed") == "true":
                self._check_unchanged(request, plug)
                return
            if not changed.wait(min(request.left, _LOOK_AROUND)):
                self._check_still_wanted(request, plug, port, switch)

    def _check_still_wanted(self, request: Request, plug: netns.Plug, port: ports.PodPort, switch: Switch) -> None:
        if self.stopping.is_set():
            raise CniError(TRY_AGAIN, "the CNI server is stopping")
        pod = self.runtime.get(PODS, request.pod_key)
        if pod is not None and not _same(pod, request):
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted and made anew")
        if pod is None and self._ask(request) is None:
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted")
        self._check_unchanged(request, plug)
        if not request.left:
            found = switch.interface(port.name)
            trouble = found.error if found is not None else "no such interface"
            cause = f"Open vSwitch says: {trouble}" if trouble else self._why_not_installed(port.iface_id)
            raise CniError(TRY_AGAIN, f"port {port.name} of pod {request.pod_key} is not ready in time; {cause}")

    def _why_not_installed(self, iface_id: str) -> str:
        """Which part of OVN a port waits for, as far as this process knows."""
        node = self.runtime.scope.node
        daemons = [self.runtime.get(OVN_DAEMONS, key) for key in (NORTHD, controller(node))]
        problems = [found.problem for found in daemons if found is not None and found.problem]
        if problems:
            return "; ".join(problems)
        return (
            f"ovn-controller has not been told of logical switch port {iface_id}: has the zone written it to the "
            "northbound, and does its northd run (ovnkit status)?"
        )

    def _check_unchanged(self, request: Request, plug: netns.Plug) -> None:
        network = _network_of(self.runtime.get(PODS, request.pod_key))
        if network is not None and network != plug.network:
            raise CniError(TRY_AGAIN, f"the addresses of pod {request.pod_key} were changed meanwhile")

    # -- the others -------------------------------------------------------------------------------------------

    def delete(self, request: Request) -> None:
        """Unplug; what is not there is fine."""
        switch = self.switch()
        removed = ports.remove_sandbox(switch, request.sandbox, request.ifname)
        netns.unplug(request.sandbox, known=netns.host_name(request.sandbox) in removed)

    def check(self, request: Request) -> None:
        """Whether everything that ADD made is still there; raises CniError when not."""
        if not isinstance(request.config.get("prevResult"), Mapping):
            raise CniError(INVALID_CONFIG, "CHECK needs prevResult")
        switch = self.switch()
        found = switch.interface(netns.host_name(request.sandbox))
        if found is None or found.external_ids.get("sandbox") != request.sandbox:
            raise CniError(CHECK_FAILED, f"sandbox {request.sandbox} has no port on {BRIDGE}")
        if found.external_ids.get("ovn-installed") != "true":
            raise CniError(CHECK_FAILED, f"port of sandbox {request.sandbox} has no flows (ovn-installed)")
        pod = self.runtime.get(PODS, request.pod_key) or self._ask(request)
        network = _network_of(pod)
        if network is None:
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} does not exist or has no address")
        netns.check(self._plug(request, network, switch))

    def collect(self, request: Request) -> None:
        """Remove the attachments that the runtime doesn't know any more."""
        valid = request.config.get("cni.dev/valid-attachments")
        if not isinstance(valid, list) or not all(isinstance(item, Mapping) for item in valid):
            raise CniError(DECODE_FAILURE, "GC needs cni.dev/valid-attachments, a list of objects")
        keep = {(item.get("containerID"), item.get("ifname")) for item in valid}
        switch = self.switch()
        for name, sandbox, ifname, _ in list(ports.sandboxes(switch)):
            if (sandbox, ifname) not in keep:
                log.info("removing an attachment nobody knows", sandbox=sandbox, port=name)
                removed = ports.remove_sandbox(switch, sandbox, ifname, name)
                netns.unplug(sandbox, known=netns.host_name(sandbox) in removed)

    def status(self) -> None:
        """Whether pods can be added; raises CniError with code 50 when not."""
        try:
            there = ports.bridge_is_there(self.switch())
        except (CniError, Retry) as error:
            raise CniError(NOT_AVAILABLE, f"not ready: {error}") from None
        if not there:
            raise CniError(NOT_AVAILABLE, f"not ready: bridge {BRIDGE} does not exist (yet)")
        if self.stopping.is_set():
            raise CniError(NOT_AVAILABLE, "the CNI server is stopping")


def _same(pod: Pod, request: Request) -> bool:
    """Whether this is the pod the runtime means. Mirror pods carry another UID than the kubelet names."""
    return not request.uid or pod.uid == request.uid or _MIRROR in pod.annotations


def _network_of(pod: Pod | None) -> PodNetwork | None:
    try:
        return parse(pod.annotations.get(ANNOTATION)) if pod is not None else None
    except Reject:
        return None
