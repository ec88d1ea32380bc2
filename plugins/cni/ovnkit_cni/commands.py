"""The commands of the CNI: what the server does for a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.errors import Retry
from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.api.hooks import Hooks, PodInterface, Runtime
from ovnkit.api.models import Pod
from ovnkit.network.ovn_daemons import NORTHBOUND_SERVER, NORTHD, OVN_DAEMONS, SOUTHBOUND_SERVER, controller
from ovnkit.network.pod import PodNetwork
from ovnkit_cni import bandwidth, netns, ports
from ovnkit_cni.adding import Adding, Addings
from ovnkit_cni.attachments import Attachment, Mark, Plugged, attachment_of, netns_id
from ovnkit_cni.checking import recorded
from ovnkit_cni.pods import LOOK_AROUND, Pods
from ovnkit_cni.result import make_result
from ovnkit_cni.switch import Switch, ask_database
from ovnkit_cni.wire import (
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

PLUGGING = 2
"""How many requests make interfaces at a time: the kernel makes one, and more only fight over the interpreter."""


class Commands:
    """Carries out requests. Safe from any thread: requests for one sandbox take turns."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.stopping = threading.Event()
        self._pods = Pods(runtime, self.stopping)
        self._addings = Addings()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}
        self._turns_lock = threading.Lock()
        self._switch = Switch()
        self._plugging = threading.BoundedSemaphore(PLUGGING)

    def run(self, request: Request) -> dict[str, Any] | None:
        """The result object of a request, None when it has none. Raises CniError."""
        try:
            if request.command == "ADD":
                with self._addings.begin(request) as adding, self.turn(request.sandbox, request.left):
                    return self.add(adding)
            if request.command == "DEL":
                error = CniError(UNKNOWN_CONTAINER, f"{request.attachment} was deleted meanwhile")
                self._addings.end_of(request.attachment, error)
            commands: dict[str, Callable[[Request], None]] = {"DEL": self.delete, "CHECK": self.check}
            if request.command in commands:
                with self.turn(request.sandbox, request.left):
                    commands[request.command](request)
                return None
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
    def turn(self, sandbox: str, patience: float) -> Iterator[None]:
        """Nobody else works on the sandbox while the body runs; raises CniError after `patience` seconds."""
        with self._turns_lock:
            lock, users = self._turns.get(sandbox, (threading.Lock(), 0))
            self._turns[sandbox] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=patience):
                raise CniError(TRY_AGAIN, f"an earlier request for sandbox {sandbox} has not ended")
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._turns_lock:
                lock, users = self._turns.pop(sandbox)
                if users > 1:
                    self._turns[sandbox] = (lock, users - 1)

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

    def add(self, adding: Adding) -> dict[str, Any]:
        """Plug a pod; what was done is undone when it fails."""
        request = adding.request
        adding.check()
        switch = self.switch()
        self._check_free(request, switch)
        pod = self._pods.find(request)
        self._addings.end_older(adding, CniError(TRY_AGAIN, f"pod {request.pod_key} has a newer sandbox"))
        pod, network = self._pods.await_network(adding, pod)
        limits = bandwidth.of_pod(pod.annotations)
        plug = self._plug(request, pod, network, switch)
        interface = PodInterface(
            pod,
            network.ip_addresses,
            network.mac_address,
            tuple(str(gateway) for gateway in network.gateway_ips),
            tuple((str(destination), str(hop or "")) for destination, hop in network.routes),
            plug.mtu,
        )
        other = self.runtime.hooks.first(
            Hooks.ovnkit_plug_pod, runtime=self.runtime, interface=interface, request=request
        )
        if other is not None:
            return dict(other[1])
        _check_cluster_network(request)
        host_mac = self._make(adding, plug, limits, switch)
        result = make_result(request.version, plug, host_mac)
        self.runtime.hooks.each(Hooks.ovnkit_cni_result, interface=interface, result=result)
        return result

    def _check_free(self, request: Request, switch: Switch) -> None:
        """Raise CniError when the sandbox has another interface on this node's bridge: it stays as it is."""
        if request.definition:
            return
        name = netns.host_name(request.sandbox)
        kept = switch.kept.get(name)
        for ids in (switch.ids(name), kept.ids if kept is not None else {}):
            there = attachment_of(ids)
            if there is not None and there.sandbox == request.sandbox and there != request.attachment:
                raise CniError(
                    INVALID_CONFIG,
                    f"interface {request.ifname} on network {request.attachment.network}: the sandbox has "
                    f"{there.ifname} on network {there.network} already, and can have no other here",
                )

    def _make(self, adding: Adding, plug: netns.Plug, limits: bandwidth.Bandwidth, switch: Switch) -> str:
        """Make interface and port and wait for the flows; the MAC address of the node's end."""
        request, network = adding.request, plug.network
        plugged = Plugged(network, plug.mtu, plug.route_mtu, plug.netns, netns_id(plug.netns))
        port = ports.PodPort(
            plug.host_name,
            ports.interface_ids(plug.mark, network),
            limits,
            plugged.record(request.attachment),
        )
        ports.remove_attachment(switch, request.attachment)
        host_mac = self._make_interface(request, plug)
        try:
            with self._switch.changes(port.name, adding.woken):
                ports.add(switch, port)
                self._await_installed(adding, plug, port, switch)
        except BaseException:
            self._undo(request, switch)
            raise
        switch.kept[port.name] = port
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
            lambda: ports.remove_attachment(switch, request.attachment),
            lambda: netns.unplug(request.attachment, known=True),
        ):
            try:
                undo()
            except Exception as error:
                log.warning(
                    "cleaning up a failed ADD", pod=request.pod_key, sandbox=request.sandbox, error=str(error)
                )

    def _plug(self, request: Request, pod: Pod, network: PodNetwork, switch: Switch) -> netns.Plug:
        defaults = self.runtime.config.default
        mark = Mark(request.sandbox, request.ifname, request.attachment.network, pod.uid, request.pod_key)
        return netns.Plug(
            mark,
            request.netns,
            network,
            request.config.get("mtu") or defaults.mtu,
            defaults.routable_mtu,
            checksums=not switch.userspace,
        )

    def _await_installed(self, adding: Adding, plug: netns.Plug, port: ports.PodPort, switch: Switch) -> None:
        """Return when ovn-controller has installed the port's flows; raises CniError when it is in vain."""
        request = adding.request
        while True:
            adding.woken.clear()
            adding.check()
            found = switch.interface(port.name)
            if found is None or found.external_ids.get("iface-id") != port.iface_id:
                raise CniError(TRY_AGAIN, f"port {port.name} of pod {request.pod_key} was taken off the bridge")
            if found.external_ids.get("ovn-installed") == "true":
                self._check_unchanged(request, plug)
                return
            if not adding.woken.wait(min(request.left, LOOK_AROUND)):
                self._check_still_wanted(request, plug, port, switch)

    def _check_still_wanted(self, request: Request, plug: netns.Plug, port: ports.PodPort, switch: Switch) -> None:
        self._pods.check_wanted(request)
        self._check_unchanged(request, plug)
        if not request.left:
            found = switch.interface(port.name)
            failure = found.error if found is not None else "no such interface"
            cause = f"Open vSwitch says: {failure}" if failure else self._why_not_installed(port.iface_id)
            raise CniError(TRY_AGAIN, f"port {port.name} of pod {request.pod_key} is not ready in time; {cause}")

    def _why_not_installed(self, iface_id: str) -> str:
        """Which part of OVN a port waits for, as far as this process knows."""
        node = self.runtime.scope.node
        keys = (NORTHBOUND_SERVER, SOUTHBOUND_SERVER, NORTHD, controller(node))
        daemons = [self.runtime.get(OVN_DAEMONS, key) for key in keys]
        problems = [found.problem for found in daemons if found is not None and found.problem]
        if problems:
            return "; ".join(problems)
        return (
            f"ovn-controller has not been told of logical switch port {iface_id}: has the zone written it to the "
            "northbound, and does its northd run (ovnkit status)?"
        )

    def _check_unchanged(self, request: Request, plug: netns.Plug) -> None:
        network = self._pods.network_of(request)
        if network is not None and network != plug.network:
            raise CniError(TRY_AGAIN, f"the addresses of pod {request.pod_key} were changed meanwhile")

    # -- the others -------------------------------------------------------------------------------------------

    def delete(self, request: Request) -> None:
        """Unplug; what is not there is fine."""
        self.unplug(request.attachment)

    def unplug(self, attachment: Attachment, name: str = "") -> None:
        """Remove an attachment's port (`name` is its, when it isn't ours) and interface, and no other's."""
        removed = ports.remove_attachment(self.switch(), attachment, name)
        netns.unplug(attachment, known=removed and name in ("", netns.host_name(attachment.sandbox)))

    def check(self, request: Request) -> None:
        """Whether everything that ADD made is still there; raises CniError when not."""
        _check_cluster_network(request)
        previous = request.config.get("prevResult")
        if not isinstance(previous, Mapping):
            raise CniError(INVALID_CONFIG, "CHECK needs prevResult")
        switch = self.switch()
        name = netns.host_name(request.sandbox)
        found, ids = switch.interface(name), switch.ids(name)
        if found is None or ids.get("sandbox") != request.sandbox:
            raise CniError(CHECK_FAILED, f"sandbox {request.sandbox} has no port on {INTEGRATION_BRIDGE}")
        if attachment_of(ids) != request.attachment:
            raise CniError(CHECK_FAILED, f"{request.attachment} has no port on {INTEGRATION_BRIDGE}")
        if found.external_ids.get("ovn-installed") != "true":
            raise CniError(CHECK_FAILED, f"port of sandbox {request.sandbox} has no flows (ovn-installed)")
        plugged = recorded(ids, previous)
        mark = Mark(request.sandbox, request.ifname, request.attachment.network)
        netns.check(netns.Plug(mark, request.netns, plugged, 0))

    def collect(self, request: Request) -> None:
        """Remove the attachments on the network of the request that the runtime doesn't know any more."""
        valid = request.config.get("cni.dev/valid-attachments")
        if not isinstance(valid, list) or not all(map(_is_valid_attachment, valid)):
            raise CniError(
                DECODE_FAILURE, "GC needs cni.dev/valid-attachments, a list of objects with containerID and ifname"
            )
        keep = {(item["containerID"], item["ifname"]) for item in valid}
        for name, attachment, _ids in list(ports.attachments(self.switch())):
            if attachment.network != request.attachment.network:
                continue
            if (attachment.sandbox, attachment.ifname) in keep:
                continue
            log.info("removing an attachment nobody knows", attachment=str(attachment), port=name)
            self.unplug(attachment, name)
        ports.collect_limits(self.switch())

    def status(self) -> None:
        """Whether pods can be added; raises CniError with code 50 when not."""
        try:
            there = ports.bridge_is_there(self.switch())
        except (CniError, Retry) as error:
            raise CniError(NOT_AVAILABLE, f"not ready: {error}") from None
        if not there:
            raise CniError(NOT_AVAILABLE, f"not ready: bridge {INTEGRATION_BRIDGE} does not exist (yet)")
        try:
            ask_database(f"{self.runtime.config.ovspaths.ovs_run_dir}/db.sock")
        except OSError as error:
            raise CniError(NOT_AVAILABLE, f"not ready: Open vSwitch's database doesn't answer: {error}") from None
        if self.stopping.is_set():
            raise CniError(NOT_AVAILABLE, "the CNI server is stopping")


def _is_valid_attachment(item: object) -> bool:
    """Whether an item of cni.dev/valid-attachments names an attachment."""
    return isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in ("containerID", "ifname"))


def _check_cluster_network(request: Request) -> None:
    """Raise CniError when the configuration is of another network than the cluster's."""
    if request.definition:
        raise CniError(
            INVALID_CONFIG,
            f"network {request.definition}: only the cluster network is supported, not one with a topology or a "
            "NetworkAttachmentDefinition of its own",
        )
