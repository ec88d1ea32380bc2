"""Random histories of pods, with restarts and crashes: no address ever belongs to two pods."""

from __future__ import annotations

import json

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NODES, PODS, Pod
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node, pod
from ovnkit_pods.plugin import PodsPlugin

POD_NETWORKS = "k8s.ovn.org/pod-networks"
REQUEST = "v1.multus-cni.io/default-network"
CONFIG = Config(default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("10.128.0.0/24/29"),)))
"""A node's subnet has room for 4 pods only, so that histories run into its end."""

NODE = node(
    "n1",
    {
        "k8s.ovn.org/node-subnets": '{"default":["10.128.0.0/29"]}',
        "k8s.ovn.org/node-chassis-id": "chassis-n1",
    },
)
NAMES = [f"a/p{number}" for number in range(7)]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["create", "complete", "delete", "forge", "forget"]), st.sampled_from(NAMES)),
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.integers(0, 9)),
    st.tuples(st.just("restart"), st.randoms(use_true_random=False)),
    st.tuples(st.just("crash"), st.sampled_from(NAMES)),
)


def process(pods: list[Pod]) -> Bench:
    found = Bench(PodsPlugin(), scope=scope(Role.ZONE, zone="global", per_node_zones=False), config=CONFIG)
    found.reconciler.observe(NODES, [("n1", NODE)])
    found.reconciler.observe(PODS, [(view.key, view) for view in pods])
    found.settle()
    return found


def restarted(before: Bench, pods: list[Pod]) -> Bench:
    """Another process finds the pods in this order; who had a port has the same one."""
    names = {view.key.replace("/", "_") for view in pods if view.annotations.get(POD_NETWORKS)}
    kept = {name: row for name, row in before.rows("Logical_Switch_Port").items() if name in names}
    after = process([running(view) if view.key.replace("/", "_") in kept else view for view in pods])
    now = after.rows("Logical_Switch_Port")
    assert {name: now.get(name) for name in kept} == kept
    return after


def running(view: Pod) -> Pod:
    """The pod with the status that its kubelet reports."""
    given = json.loads(view.annotations[POD_NETWORKS])["default"]["ip_addresses"]
    return evolve(view, addresses=tuple(item.partition("/")[0] for item in given))


def stored(bench: Bench) -> list[Pod]:
    found = (bench.get(PODS, key) for key in NAMES)
    return [view for view in found if view is not None]


def step(bench: Bench, action: tuple[object, ...]) -> Bench:
    what, *rest = action
    if what == "restart":
        pods = stored(bench)
        rest[0].shuffle(pods)  # type: ignore[attr-defined]
        return restarted(bench, pods)
    key = str(rest[0])
    view = bench.get(PODS, key)
    if what == "crash":
        # The process dies after it has chosen an address for a new pod, before anything is written.
        return restarted(bench, [pod(key, "n1"), *(item for item in stored(bench) if item.key != key)])
    if what == "create" and view is None:
        bench.put(PODS, pod(key, "n1"))
    elif what == "ask" and view is None:
        asks = json.dumps([{"name": "x", "ips": [f"10.128.0.{rest[1]}"]}])
        bench.put(PODS, pod(key, "n1", {REQUEST: asks}))
    elif what == "complete" and view is not None:
        bench.put(PODS, evolve(view, completed=True))
    elif what == "delete" and view is not None:
        bench.drop(PODS, key)
    elif what == "forge" and view is None:
        text = json.dumps({"default": {"ip_addresses": ["10.128.0.3/29"], "mac_address": "0a:58:0a:80:00:03"}})
        bench.put(PODS, pod(key, "n1", {POD_NETWORKS: text}))
    elif what == "forget" and view is not None:
        bench.annotate(PODS, key, {POD_NETWORKS: None})
    return bench


def check(bench: Bench) -> None:
    ports = bench.rows("Logical_Switch_Port")
    owners: dict[str, str] = {}
    for name, port in ports.items():
        address = next(iter(port["addresses"])).split()[1]
        assert address not in owners, f"{address} belongs to {owners[address]} and {name}"
        assert 3 <= int(address.rpartition(".")[2]) <= 6
        owners[address] = name
        annotation = bench.get(PODS, name.replace("_", "/")).annotations[POD_NETWORKS]
        assert json.loads(annotation)["default"]["ip_addresses"] == [f"{address}/29"]
    waiting = [view for view in stored(bench) if not view.completed and view.key.replace("/", "_") not in ports]
    unasked = [view for view in waiting if not view.annotations]
    assert not unasked or len(ports) == 4, f"{unasked[0].key} waits although there is room"


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_no_address_belongs_to_two_pods_and_none_is_lost(history: list[tuple[object, ...]]) -> None:
    bench = process([])
    for action in history:
        bench = step(bench, action)
        check(bench)
