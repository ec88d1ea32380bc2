"""Service addresses and node ports: allocation and release, as kube-apiserver does."""

import ipaddress
from collections.abc import Sequence

from . import errors
from .errors import FieldProblem, Json
from .store import Change, Collection, Record

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NODE_PORTS = range(30000, 32768)
_RESERVED_OFFSET = 10


class ServiceAddresses:
    """Hands out cluster addresses and node ports; what is taken is read from the stored services."""

    def __init__(self, networks: Sequence[Network], services: Collection) -> None:
        self._networks = list(networks)
        self._next = [_RESERVED_OFFSET for _ in networks]
        self._next_port = NODE_PORTS.start
        self._addresses: dict[str, tuple[str, str]] = {}
        self._ports: dict[tuple[int, str], tuple[str, str]] = {}
        self._name = services.name
        for record in services.objects.values():
            self._hold(record)

    @property
    def families(self) -> list[str]:
        """The cluster's address families, the primary first."""
        return [f"IPv{n.version}" for n in self._networks]

    def first(self) -> list[str]:
        """The first address of each network: those of the ``kubernetes`` service."""
        return [str(n[1]) for n in self._networks]

    def complete(self, service: Json, old: Json | None) -> None:
        """Give a service its families, addresses and node ports, in place.

        Raises :class:`~.errors.ApiError` (422) for an address or port that is taken, out of range, or changed.
        """
        spec = service["spec"]
        problems: list[FieldProblem] = []
        if spec["type"] == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(name, None)
        else:
            self._inherit(spec, old)
            self._choose_families(spec, problems)
            self._assign(service, spec, problems)
        self._node_ports(service, spec, old, problems)
        self._health_port(service, spec, old, problems)
        if problems:
            raise errors.invalid("Service", "", service["metadata"]["name"], problems)

    def follow(self, collection: Collection, change: Change) -> None:
        """Keep up with stored services (a listener of the store)."""
        if collection.name != self._name:
            return
        if change.previous is not None:
            for address in _addresses(change.previous):
                self._addresses.pop(address, None)
            for port in _ports(change.previous):
                self._ports.pop(port, None)
        if not change.deleted:
            self._hold(change.record)

    def _hold(self, record: Record) -> None:
        self._addresses.update((address, record.key) for address in _addresses(record))
        self._ports.update((port, record.key) for port in _ports(record))

    def _inherit(self, spec: Json, old: Json | None) -> None:
        before = (old or {}).get("spec") or {}
        if not spec.get("clusterIP") and not spec.get("clusterIPs") and before.get("type") != "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if before.get(name):
                    spec.setdefault(name, before[name])

    def _choose_families(self, spec: Json, problems: list[FieldProblem]) -> None:
        given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        headless = given == ["None"]
        policy = spec.get("ipFamilyPolicy")
        families = list(spec.get("ipFamilies") or [])
        if not families and given and not headless:
            families = [f"IPv{ipaddress.ip_address(a).version}" for a in given if _parses(a)]
        if not families:
            families = self.families[:1]
        if policy is None:
            policy = "SingleStack" if len(families) == 1 else "RequireDualStack"
            if headless and not spec.get("selector") and not spec.get("ipFamilies"):
                policy = "RequireDualStack"
                families = list(self.families) if len(self.families) > 1 else ["IPv4", "IPv6"]
        for i, family in enumerate(families):
            if family not in self.families and not headless:
                text = "not configured on this cluster"
                problems.append(FieldProblem.invalid(f"spec.ipFamilies[{i}]", family, text))
        if policy == "RequireDualStack" and len(self.families) < 2 and not headless:
            text = "this cluster is not configured for dual-stack services"
            problems.append(FieldProblem.invalid("spec.ipFamilyPolicy", policy, text))
        if policy != "SingleStack" and len(families) == 1:
            families += [f for f in self.families if f not in families]
        if policy == "SingleStack":
            families = families[:1]
        spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families

    def _assign(self, service: Json, spec: Json, problems: list[FieldProblem]) -> None:
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        given = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
        if spec.get("clusterIP") and given[0] != spec["clusterIP"]:
            text = "must match `clusterIP` when specified"
            problems.append(FieldProblem.invalid("spec.clusterIPs[0]", given[0], text))
        if given == ["None"]:
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if problems:
            return
        for i, address in enumerate(given):
            self._check(key, i, address, problems)
        for family in spec["ipFamilies"][len(given) :]:
            given.append(self._allocate(family))
        given = given[: len(spec["ipFamilies"])]
        spec["clusterIP"], spec["clusterIPs"] = given[0], given

    def _check(self, key: tuple[str, str], i: int, address: str, problems: list[FieldProblem]) -> None:
        path = f"spec.clusterIPs[{i}]"
        if not _parses(address):
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            problems.append(FieldProblem.invalid(path, address, text))
        elif self._addresses.get(address, key) != key:
            text = "failed to allocate IP: provided IP is already allocated"
            problems.append(FieldProblem.invalid(path, address, text))
        elif not any(ipaddress.ip_address(address) in n for n in self._networks):
            text = f"failed to allocate IP: the provided IP ({address}) is not in the valid range"
            problems.append(FieldProblem.invalid(path, address, text))

    def _allocate(self, family: str) -> str:
        index = self.families.index(family)
        network = self._networks[index]
        last = min(network.num_addresses - 2, 1 << 20)
        span = max(last - _RESERVED_OFFSET, 1)
        for step in range(span):
            offset = _RESERVED_OFFSET + (self._next[index] - _RESERVED_OFFSET + step) % span
            address = str(network[offset])
            if address not in self._addresses:
                self._next[index] = offset + 1
                return address
        raise errors.ApiError(500, "InternalError", f"failed to allocate IP: range {network} is full")

    def _node_ports(self, service: Json, spec: Json, old: Json | None, problems: list[FieldProblem]) -> None:
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        wanted = spec["type"] == "NodePort" or (
            spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
        )
        before = {_port_key(p): p for p in ((old or {}).get("spec") or {}).get("ports") or []}
        for i, port in enumerate(spec.get("ports") or []):
            protocol = port.get("protocol", "TCP")
            if not wanted:
                if spec["type"] == "ClusterIP" and old is not None:
                    port.pop("nodePort", None)
                continue
            number = port.get("nodePort") or before.get(_port_key(port), {}).get("nodePort")
            path = f"spec.ports[{i}].nodePort"
            if not number:
                number = self._free_port(protocol, {p.get("nodePort") for p in spec["ports"]})
            elif number not in NODE_PORTS:
                text = "provided port is not in the valid range. The range of valid ports is 30000-32767"
                problems.append(FieldProblem.invalid(path, number, text))
            elif self._ports.get((number, protocol), key) != key:
                problems.append(FieldProblem.invalid(path, number, "provided port is already allocated"))
            port["nodePort"] = number

    def _health_port(self, service: Json, spec: Json, old: Json | None, problems: list[FieldProblem]) -> None:
        """A load balancer with a local policy gets a port to ask for its endpoints at, and keeps it."""
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        if spec["type"] != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            spec.pop("healthCheckNodePort", None)
            return
        path = "spec.healthCheckNodePort"
        number = spec.get("healthCheckNodePort") or ((old or {}).get("spec") or {}).get("healthCheckNodePort")
        if not number:
            number = self._free_port("TCP", {port.get("nodePort") for port in spec.get("ports") or []})
        elif self._ports.get((number, "TCP"), key) != key:
            problems.append(FieldProblem.invalid(path, number, "provided port is already allocated"))
        spec["healthCheckNodePort"] = number

    def _free_port(self, protocol: str, chosen: set[int | None]) -> int:
        size = len(NODE_PORTS)
        for step in range(size):
            port = NODE_PORTS.start + (self._next_port - NODE_PORTS.start + step) % size
            if port not in chosen and not any((port, p) in self._ports for p in {protocol, "TCP", "UDP", "SCTP"}):
                self._next_port = port + 1
                return port
        raise errors.ApiError(500, "InternalError", "failed to allocate a nodePort: range is full")


def _addresses(record: Record) -> list[str]:
    return [a for a in record.load()["spec"].get("clusterIPs") or [] if a != "None"]


def _ports(record: Record) -> list[tuple[int, str]]:
    spec = record.load()["spec"]
    found = [(p["nodePort"], p.get("protocol", "TCP")) for p in spec.get("ports") or [] if p.get("nodePort")]
    health = spec.get("healthCheckNodePort")
    return [*found, (health, "TCP")] if health else found


def _port_key(port: Json) -> tuple[object, object]:
    return (port.get("port"), port.get("protocol", "TCP"))


def _parses(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
