"""An independent oracle: the NetworkPolicy specification in plain Python, from the raw objects alone.

Written from the API reference of `networking.k8s.io/v1` and the concept page "Network Policies" of the Kubernetes
documentation; nothing of the plugin is used. Where those leave a choice:

- pods with the host's network are ignored by selectors, their traffic is that of their node's addresses;
- pods that have completed have no addresses any more;
- what comes from the node of a pod is always let in, what goes to it is subject to egress rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from attrs import frozen

Raw = dict[str, Any]

NETWORKS = "k8s.ovn.org/pod-networks"
SUBNETS = "k8s.ovn.org/node-subnets"


@frozen
class Probe:
    """The first packet of a connection. `protocol` is TCP, UDP, SCTP, or ICMP with port 0."""

    source: str
    target: str
    protocol: str
    port: int


class Oracle:
    """Who may talk to whom."""

    def __init__(
        self, nodes: Iterable[Raw], namespaces: Iterable[Raw], pods: Iterable[Raw], policies: Iterable[Raw]
    ) -> None:
        self._nodes = {node["metadata"]["name"]: management_addresses(node) for node in nodes}
        self._namespaces = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in namespaces}
        self._pods = {address: pod for pod in pods for address in pod_addresses(pod)}
        self._policies = list(policies)

    def allows(self, probe: Probe) -> bool:
        """Whether the source's egress and the target's ingress let it through; what is no pod has no policies."""
        return self._sends(probe) and self._receives(probe)

    def isolated(self, address: str, direction: str) -> bool:
        """Whether a policy isolates the pod with this address."""
        return bool(self._applying(address, direction))

    def _sends(self, probe: Probe) -> bool:
        found = self._applying(probe.source, "Egress")
        return not found or self._some_rule(found, "egress", "to", probe.target, probe)

    def _receives(self, probe: Probe) -> bool:
        found = self._applying(probe.target, "Ingress")
        if not found or self._some_rule(found, "ingress", "from", probe.source, probe):
            return True
        own_node = self._pods[probe.target]["spec"]["nodeName"]
        return probe.source in self._nodes[own_node]

    def _applying(self, address: str, direction: str) -> list[Raw]:
        pod = self._pods.get(address)
        if pod is None:
            return []
        return [
            policy
            for policy in self._policies
            if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            and direction in _types(policy["spec"])
            and selects(policy["spec"].get("podSelector") or {}, _labels(pod))
        ]

    def _some_rule(self, policies: list[Raw], field: str, peers: str, other: str, probe: Probe) -> bool:
        return any(
            self._is_peer(rule.get(peers), policy["metadata"]["namespace"], other)
            and self._is_port(rule.get("ports"), probe)
            for policy in policies
            for rule in policy["spec"].get(field) or []
        )

    def _is_peer(self, peers: list[Raw] | None, namespace: str, address: str) -> bool:
        return not peers or any(
            _in_block(address, peer["ipBlock"])
            if "ipBlock" in peer
            else self._is_selected(peer, namespace, address)
            for peer in peers
        )

    def _is_selected(self, peer: Raw, namespace: str, address: str) -> bool:
        pod = self._pods.get(address)
        if pod is None:
            return False
        where = pod["metadata"]["namespace"]
        if peer.get("namespaceSelector") is None:
            there = where == namespace
        else:
            there = selects(peer["namespaceSelector"], self._namespaces[where])
        return there and selects(peer.get("podSelector") or {}, _labels(pod))

    def _is_port(self, ports: list[Raw] | None, probe: Probe) -> bool:
        return not ports or any(
            port.get("protocol", "TCP") == probe.protocol and self._is_number(port, probe) for port in ports
        )

    def _is_number(self, port: Raw, probe: Probe) -> bool:
        wanted = port.get("port")
        if wanted is None:
            return True
        if isinstance(wanted, str):
            target = self._pods.get(probe.target)
            return target is not None and (wanted, probe.protocol, probe.port) in _declared(target)
        last: Any = port.get("endPort", wanted)
        return bool(wanted <= probe.port <= last)


def management_addresses(node: Raw) -> list[str]:
    """Addresses of a node on the pod network, which it talks to pods with: the second of each of its slices."""
    return [str(ip_network(text)[2]) for text in json.loads(node["metadata"]["annotations"][SUBNETS])["default"]]


def pod_addresses(pod: Raw) -> list[str]:
    """Addresses on the pod network; none while it has none, and none with the host's network."""
    if pod["spec"].get("hostNetwork") or pod["status"]["phase"] in ("Succeeded", "Failed"):
        return []
    text = (pod["metadata"].get("annotations") or {}).get(NETWORKS)
    return [] if text is None else [item.partition("/")[0] for item in json.loads(text)["default"]["ip_addresses"]]


def selects(selector: Raw, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects."""
    tests: dict[str, Callable[[str, Any], bool]] = {
        "In": lambda key, values: key in labels and labels[key] in values,
        "NotIn": lambda key, values: key not in labels or labels[key] not in values,
        "Exists": lambda key, _values: key in labels,
        "DoesNotExist": lambda key, _values: key not in labels,
    }
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        tests[item["operator"]](item["key"], item.get("values") or [])
        for item in selector.get("matchExpressions") or []
    )


def _types(spec: Raw) -> list[str]:
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _labels(pod: Raw) -> Mapping[str, str]:
    found: Mapping[str, str] = pod["metadata"].get("labels") or {}
    return found


def _declared(pod: Raw) -> set[tuple[str, str, int]]:
    return {
        (port.get("name", ""), port.get("protocol", "TCP"), port["containerPort"])
        for container in (*pod["spec"]["containers"], *_sidecars(pod))
        for port in container.get("ports") or []
    }


def _sidecars(pod: Raw) -> list[Raw]:
    return [item for item in pod["spec"].get("initContainers") or () if item.get("restartPolicy") == "Always"]


def _in_block(address: str, block: Raw) -> bool:
    inside, *cut_out = (
        ip_address(address) in ip_network(text) for text in (block["cidr"], *block.get("except", ()))
    )
    return inside and not any(cut_out)
