"""Waits for single changes and for bursts, in a loaded cluster; and the floors of the same changes."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from bench import load as loads
from bench.load import Manifest
from bench.rawapi import MERGE, Request, Watch
from bench.rawdb import Database, Monitor, Operation
from bench.rig import PATIENCE, Rig

POD_NETWORKS = "k8s.ovn.org/pod-networks"
PODS, SLICES = "/api/v1/pods", "/apis/discovery.k8s.io/v1/endpointslices"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
SINGLE = 30.0
"""Seconds that one object may take."""
APART = 0.05
"""Seconds between policies, in which no further rows may come."""
NEW = 20
"""Thousands from which on created services are numbered."""


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile of the values, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; the worst of fewer than a hundred."""
    return percentile(values, 0.99)


def until(holds: Callable[[], bool], patience: float = SINGLE, pause: float = 0.001) -> None:
    """Wait; TimeoutError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience:g} s")
        time.sleep(pause)


def until_quiet(monitor: Monitor) -> None:
    """Wait until nothing has changed for 50 ms: rows that come in a later transaction count too."""
    changes = -1
    while changes != monitor.changes:
        changes = monitor.changes
        time.sleep(APART)


def _post(manifest: Manifest) -> Request:
    return "POST", loads.collection(manifest), manifest, "application/json"


def _named(pattern: str) -> Callable[[dict[str, Any]], str | None]:
    compiled = re.compile(pattern)

    def named(row: dict[str, Any]) -> str | None:
        found = compiled.search(orjson.dumps(row).decode())
        return found.group(1) if found else None

    return named


class Changes:
    """The measurements on a running, steady ovnkit."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.api = rig, rig.api

    def _monitor(self, table: str, columns: list[str], pattern: str, *more: str) -> Monitor:
        """A monitor of a table; of `more` tables the `external_ids`."""
        tables = {table: columns, **{name: ["external_ids"] for name in more}}
        return Monitor(self.rig.database.socket, tables, _named(pattern))

    def pods(self, count: int) -> tuple[list[float], list[float]]:
        """Pods created one by one: seconds to the annotation, and to the port."""
        watch = Watch(self.api, PODS, lambda pod: POD_NETWORKS in (pod["metadata"].get("annotations") or {}))
        ports = self._monitor("Logical_Switch_Port", ["name"], r"(single-\d+)")
        annotated, committed = [], []
        for index in range(count):
            pod, name = loads.pod(index, self.rig.load, "single", app="none"), f"single-{index}"
            start = time.monotonic()
            self.api.one.request(*_post(pod))
            until(lambda name=name: name in watch.seen and name in ports.seen)  # type: ignore[misc]
            annotated.append(watch.seen[name] - start)
            committed.append(ports.seen[name] - start)
        watch.close()
        ports.close()
        return annotated, committed

    def burst(self, count: int, name: str) -> float:
        """Pods created at once: seconds until all are annotated and have ports."""
        watch = Watch(self.api, PODS, lambda pod: POD_NETWORKS in (pod["metadata"].get("annotations") or {}))
        ports = self._monitor("Logical_Switch_Port", ["name"], rf"({name}-\d+)")
        start = time.monotonic()
        self.api.many([_post(loads.pod(index, self.rig.load, name, app="none")) for index in range(count)])
        names = {f"{name}-{index}" for index in range(count)}
        until(lambda: names <= watch.seen.keys() and names <= ports.seen.keys(), PATIENCE, 0.01)
        watch.close()
        ports.close()
        return max(*(watch.seen[item] for item in names), *(ports.seen[item] for item in names)) - start

    def big_app(self, count: int) -> None:
        """Let this many pods carry the label that the policies of `policies` select."""
        patch = {"metadata": {"labels": {"app": "many"}}}
        pods = [loads.pod(index, self.rig.load) for index in range(count)]
        self.api.many([("PATCH", loads.path(pod), patch, MERGE) for pod in pods])
        time.sleep(0.2)
        self.rig.settle()

    def policies(self, count: int) -> list[float]:
        """Policies created one by one: seconds to the last ACL."""
        acls = self._monitor("ACL", ["external_ids"], r"(lat-\d+)")
        took = []
        for index in range(count):
            policy, name = loads.policy(index, self.rig.load, "lat", "many"), f"lat-{index}"
            start = time.monotonic()
            self.api.one.request(*_post(policy))
            until(lambda name=name: name in acls.seen)  # type: ignore[misc]
            until_quiet(acls)
            took.append(acls.seen[name] - start)
        acls.close()
        return took

    def own_policies(self, count: int) -> tuple[list[float], list[float]]:
        """Policies like those of the load, one by one: seconds to the first ACL, and to the last row."""
        acls = self._monitor("ACL", ["external_ids"], r"(own-\d+)")
        rows = self._monitor("ACL", ["external_ids"], r"(own-\d+)", "Port_Group", "Address_Set")
        first, last = [], []
        for index in range(count):
            start = time.monotonic()
            self.api.one.request(*_post(loads.policy(index, self.rig.load, "own")))
            until(lambda name=f"own-{index}": name in acls.seen)  # type: ignore[misc]
            until_quiet(rows)
            first.append(acls.first[f"own-{index}"] - start)
            last.append(rows.last - start)
        acls.close()
        rows.close()
        return first, last

    def services(self, count: int) -> list[float]:
        """Services created one by one: seconds to the load balancer."""
        balancers = self._monitor("Load_Balancer", ["external_ids"], rf"(service-{NEW}\d+)\"")
        took = []
        for index in range(count):
            manifest = loads.service(NEW * 1000 + index)
            start = time.monotonic()
            self.api.one.request(*_post(manifest))
            name = manifest["metadata"]["name"]
            until(lambda name=name: name in balancers.seen)  # type: ignore[misc]
            took.append(balancers.first[name] - start)
        balancers.close()
        return took

    def endpoints(self, count: int, turn: int) -> list[float]:
        """Slices updated one by one: seconds to the load balancer."""
        balancers = self._monitor("Load_Balancer", ["external_ids", "vips"], r"(service-\d+)\"")
        took = []
        for index in range(count):
            request = self.patch(index, turn)
            start = time.monotonic()
            self.api.one.request(*request)
            until(lambda name=f"service-{index}": name in balancers.seen)  # type: ignore[misc]
            took.append(balancers.seen[f"service-{index}"] - start)
        balancers.close()
        return took

    def endpoint_burst(self, count: int, turn: int) -> float:
        """Slices updated at once: seconds until all load balancers have changed."""
        balancers = self._monitor("Load_Balancer", ["external_ids", "vips"], r"(service-\d+)\"")
        start = time.monotonic()
        self.api.many([self.patch(index, turn) for index in range(count)])
        until(lambda: len(balancers.seen) >= count, PATIENCE, 0.01)
        balancers.close()
        return max(balancers.seen.values()) - start

    def patch(self, index: int, turn: int) -> Request:
        """The update that gives a service other endpoints."""
        found = loads.endpoint_slice(index, self.rig.load, turn)
        return "PATCH", loads.path(found), {"endpoints": found["endpoints"]}, MERGE


class Floors:
    """The same changes made by raw clients; `copy` has the same northbound.

    The measured process runs meanwhile, as the API server's work differs with the number of watches; what it sees
    here (pods without a node, for instance) makes it write nothing or little.
    """

    def __init__(self, rig: Rig, copy: Database, rows: dict[str, list[Operation]]) -> None:
        self.rig, self.api, self._copy, self._rows = rig, rig.api, copy, rows

    def _seen(self, request: Request, name: str, watch: Watch) -> float:
        start = time.monotonic()
        self.api.one.request(*request)
        until(lambda: name in watch.seen, pause=0.0005)
        return watch.seen[name] - start

    def pods(self, count: int) -> tuple[list[float], list[float], list[float]]:
        """Create to watch event, a patch, a transaction: seconds of each, `count` times."""
        watch = Watch(self.api, PODS, lambda _: True)
        events, patches, writes = [], [], []
        switches = [row["_uuid"] for row in self._rows["Logical_Switch"]]
        for index in range(count):
            pod = loads.pod(index, self.rig.load, "floor", app="none")
            del pod["spec"]["nodeName"]
            events.append(self._seen(_post(pod), f"floor-{index}", watch))
            start = time.monotonic()
            self.api.one.request("PATCH", loads.path(pod), {"metadata": {"annotations": {"a": "b" * 300}}}, MERGE)
            patches.append(time.monotonic() - start)
            start = time.monotonic()
            self._copy.transact(_port(f"floor-{index}", switches[index % len(switches)]))
            writes.append(time.monotonic() - start)
        watch.close()
        return events, patches, writes

    def burst(self, count: int) -> float:
        """Create pods, patch them, write their ports in one transaction: seconds."""
        pods = [loads.pod(index, self.rig.load, "floor-burst", app="none") for index in range(count)]
        for pod in pods:
            del pod["spec"]["nodeName"]
        took = self.api.many([_post(pod) for pod in pods])
        patch = {"metadata": {"annotations": {"a": "b" * 300}}}
        took += self.api.many([("PATCH", loads.path(pod), patch, MERGE) for pod in pods])
        switches = [row["_uuid"] for row in self._rows["Logical_Switch"]]
        ports = [_port(f"floor-burst-{index}", switches[index % len(switches)]) for index in range(count)]
        return took + self._copy.write([[operation for pair in ports for operation in pair]])

    def policies(self, count: int, selected: int) -> list[float]:
        """Create to watch event, and a transaction with a policy's rows: seconds of the sum.

        As far apart as those of `Changes.policies`: after a rest, a machine takes longer for what comes next.
        """
        watch = Watch(self.api, POLICIES, lambda _: True)
        took = []
        for index in range(count):
            policy = loads.policy(index, self.rig.load, "floor", "nobody")
            event = self._seen(_post(policy), f"floor-{index}", watch)
            start = time.monotonic()
            self._copy.transact(_policy_rows(f"floor{index}", selected))
            took.append(event + time.monotonic() - start)
            self.api.one.request("DELETE", loads.path(policy))
            time.sleep(APART)
        watch.close()
        return took

    def endpoints(self, count: int, changes: Changes, turn: int) -> list[float]:
        """Update to watch event, and one mutation: seconds of the sum."""
        watch = Watch(self.api, SLICES, lambda _: True)
        took = []
        for index in range(count):
            event = self._seen(changes.patch(index, turn), f"service-{index}", watch)
            start = time.monotonic()
            self._copy.transact([self._balancer(index)])
            took.append(event + time.monotonic() - start)
        watch.close()
        return took

    def endpoint_burst(self, count: int, changes: Changes, turn: int) -> float:
        """Update all, and one transaction of as many mutations: seconds."""
        took = self.api.many([changes.patch(index, turn) for index in range(count)])
        return took + self._copy.write([[self._balancer(index) for index in range(count)]])

    def _balancer(self, index: int) -> Operation:
        rows = self._rows["Load_Balancer"]
        where = [["_uuid", "==", rows[index % len(rows)]["_uuid"]]]
        change = [["vips", "insert", ["map", [["172.16.255.1:80", ",".join(["10.128.0.1:80"] * 5)]]]]]
        return {"op": "mutate", "table": "Load_Balancer", "where": where, "mutations": change}


def _port(name: str, switch: list[str]) -> list[Operation]:
    row = {
        "name": name,
        "addresses": "0a:58:0a:80:00:05 10.128.0.5",
        "port_security": "0a:58:0a:80:00:05 10.128.0.5",
    }
    row_name = "row" + name.replace("-", "_")
    change = ["ports", "insert", ["named-uuid", row_name]]
    where = [["_uuid", "==", switch]]
    return [
        {"op": "insert", "table": "Logical_Switch_Port", "uuid-name": row_name, "row": row},
        {"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": [change]},
    ]


def _policy_rows(name: str, selected: int) -> list[Operation]:
    """An address set of the selected pods' addresses, four ACLs, a port group."""
    addresses = [f"10.200.{index >> 8}.{index & 255}" for index in range(selected)]
    acl = {"action": "allow-related", "direction": "to-lport", "priority": 1001}
    acls: list[Operation] = [
        {"op": "insert", "table": "ACL", "uuid-name": f"acl{index}", "row": {**acl, "match": f"{name} {index}"}}
        for index in range(4)
    ]
    group = {"name": f"g{name}", "acls": ["set", [["named-uuid", f"acl{index}"] for index in range(4)]]}
    sets = {"name": f"s{name}", "addresses": ["set", addresses]}
    return [
        *acls,
        {"op": "insert", "table": "Port_Group", "row": group},
        {"op": "insert", "table": "Address_Set", "row": sets},
    ]
