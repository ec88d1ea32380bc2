"""The pod that a request is about: it is found, and waited for until it has addresses."""

from __future__ import annotations

import threading
import time

from ovnkit.api.errors import Reject, Retry
from ovnkit.api.hooks import Runtime
from ovnkit.api.models import NODES, PODS, Pod
from ovnkit.network.node import NODE_SUBNETS, parse_node_subnets
from ovnkit.network.pod import ANNOTATION, PodNetwork, parse
from ovnkit_cni.adding import Adding
from ovnkit_cni.wire import BAD_POD, TRY_AGAIN, UNKNOWN_CONTAINER, CniError, Request

FIND_POD = 1.0
"""Seconds to look for a pod that the API server does not know yet, as upstream."""
LOOK_AROUND = 1.0
"""Seconds after which a waiting ADD looks whether its pod is still wanted."""
_ASK_AGAIN = 0.2
_MIRROR = "kubernetes.io/config.mirror"


class Pods:
    """Looks pods up for requests; `stopping` ends all waits."""

    def __init__(self, runtime: Runtime, stopping: threading.Event) -> None:
        self.runtime = runtime
        self.stopping = stopping

    def network_of(self, request: Request) -> PodNetwork | None:
        """What the pod is annotated with now, as far as the cache knows."""
        return network_of(self.runtime.get(PODS, request.pod_key))

    def check_wanted(self, request: Request) -> None:
        """Raise CniError when there is no reason to go on."""
        if self.stopping.is_set():
            raise CniError(TRY_AGAIN, "the CNI server is stopping")
        pod = self.runtime.get(PODS, request.pod_key)
        if pod is not None and not same(pod, request):
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted and made anew")
        if pod is None and (pod := self.ask(request)) is None:
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted")
        _check_stays(pod)

    def find(self, request: Request) -> Pod:
        """The pod, from the cache or the API server; it may take a moment until it is seen."""
        deadline = time.monotonic() + FIND_POD
        while True:
            pod = self.runtime.get(PODS, request.pod_key)
            if pod is None or not same(pod, request):
                pod = self.ask(request)
            if pod is not None and same(pod, request):
                return pod
            if time.monotonic() >= deadline or self.stopping.wait(_ASK_AGAIN):
                break
        if pod is None:
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} does not exist")
        raise CniError(
            UNKNOWN_CONTAINER, f"pod {request.pod_key} has UID {pod.uid}, the request is for {request.uid}"
        )

    def ask(self, request: Request) -> Pod | None:
        """The pod as the API server has it now; raises CniError when it can't be asked."""
        try:
            pod: Pod | None = self.runtime.refresh(PODS, request.pod_key)
        except Retry:
            raise
        except Exception as error:
            raise CniError(TRY_AGAIN, f"pod {request.pod_key} can't be looked up: {error}") from error
        return pod

    def await_network(self, adding: Adding, pod: Pod) -> tuple[Pod, PodNetwork]:
        """The pod, once it has an address on the default network."""
        request = adding.request
        while True:
            try:
                network = parse(pod.annotations.get(ANNOTATION))
            except Reject as error:
                raise CniError(BAD_POD, f"pod {request.pod_key}: {error.message}") from None
            if network is not None:
                self._check_own(request, network)
                return pod, network
            _check_stays(pod)
            pod = self._await_change(adding)

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

    def _await_change(self, adding: Adding) -> Pod:
        request = adding.request

        def changed(view: Pod | None) -> bool:
            # None before the cache has seen the pod at all is no deletion; refresh() will tell in that case.
            return view is not None and (not same(view, request) or _has_said(view) or _is_going(view))

        try:
            view = self.runtime.wait_for(PODS, request.pod_key, min(request.left, LOOK_AROUND), changed)
        except TimeoutError:
            if self.stopping.is_set():
                raise CniError(TRY_AGAIN, "the CNI server is stopping") from None
            view = self.runtime.get(PODS, request.pod_key) or self.ask(request)
        adding.check()
        if view is None or not same(view, request):
            raise CniError(UNKNOWN_CONTAINER, f"pod {request.pod_key} was deleted") from None
        if not request.left and not _has_said(view):
            raise CniError(
                TRY_AGAIN, f"pod {request.pod_key} has no annotation {ANNOTATION}: no address was assigned to it"
            )
        return view


def same(pod: Pod, request: Request) -> bool:
    """Whether this is the pod the runtime means. Mirror pods carry another UID than the kubelet names."""
    return not request.uid or pod.uid == request.uid or _MIRROR in pod.annotations


def _has_said(pod: Pod) -> bool:
    """Whether the annotation has something to say of the cluster network, were it nonsense."""
    try:
        return parse(pod.annotations.get(ANNOTATION)) is not None
    except Reject:
        return True


def _is_going(pod: Pod) -> bool:
    return pod.deleting and _MIRROR not in pod.annotations


def _check_stays(pod: Pod) -> None:
    """Raise CniError when a pod is being deleted: the kubelet waits for the end of the ADD."""
    if _is_going(pod):
        raise CniError(UNKNOWN_CONTAINER, f"pod {pod.key} is being deleted")


def network_of(pod: Pod | None) -> PodNetwork | None:
    """A pod's part of the annotation; None when there is none, or nonsense."""
    try:
        return parse(pod.annotations.get(ANNOTATION)) if pod is not None else None
    except Reject:
        return None
