"""The parts of the lab that need no lab: names, addresses, configuration, controllers' decisions."""

import socket
import tomllib
from typing import Any

import pytest
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck, SCTPChunkParamStateCookie

from kubelab.controllers.endpoints import slices
from kubelab.controllers.scheduler import fits
from kubelab.controllers.workloads import _share, template_hash
from ovnkit_lab import layout, sctp, settings
from ovnkit_lab.kubelet.containers import Container, command, environment, expand, phase
from ovnkit_lab.layout import LabError, LabSpec

Json = dict[str, Any]


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "x" * 21, "..", "a b"])
def test_names_that_could_harm_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        layout.check_name(name)


def test_no_lab_can_take_the_namespaces_of_another() -> None:
    assert not layout.netns_prefix("a-b").startswith(layout.netns_prefix("a"))


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("ipv4", ["172.18.0.12/16"]),
        ("ipv6", ["fd00:172:18::12/64"]),
        ("dual", ["172.18.0.12/16", "fd00:172:18::12/64"]),
    ],
)
def test_nodes_have_an_address_per_family(family: str, expected: list[str]) -> None:
    spec = LabSpec("x", ("node1", "node2"), ip_family=family)
    assert [str(address) for address in spec.addresses("node2")] == expected


def test_hosts_have_addresses_and_macs_of_their_own() -> None:
    spec = LabSpec("x", tuple(f"node{number}" for number in range(layout.MAX_NODES)), ip_family="dual")
    addresses = [address for host in spec.hosts for address in spec.addresses(host)]
    assert len(set(addresses)) == len(addresses)
    assert len({spec.mac(host) for host in spec.hosts}) == len(spec.hosts)


def test_the_users_configuration_stands_over_the_labs_but_not_over_its_sockets() -> None:
    spec = LabSpec(
        "x", ("node1",), ip_family="dual",
        config='[default]\nmtu = 1300\nzone-mode = "central"\n[more]\nnames = ["a", "b"]\nmap = {key = true}\n',
    )  # fmt: skip
    content = tomllib.loads(settings._toml(settings._sections(spec, "node1")))
    assert content["default"]["mtu"] == 1300
    assert content["default"]["zone-mode"] == "per-node"
    assert content["default"]["cluster-subnets"] == ["10.244.0.0/16/24", "fd00:10:244::/48/64"]
    assert content["more"] == {"names": ["a", "b"], "map": {"key": True}}
    assert content["ovnnorth"]["address"] == "unix:/run/ovnkit-lab/x/node1/ovn/ovnnb_db.sock"


def test_a_central_zone_is_reached_over_the_fabric() -> None:
    assert LabSpec("x", ("node1",), "central", "ipv4").database("node1", "sb") == "tcp:172.18.0.2:6642"
    assert LabSpec("x", ("node1",), "central", "ipv6").database("node1", "nb") == "tcp:[fd00:172:18::2]:6641"


# -- containers ---------------------------------------------------------------------------------------------


def test_command_and_arguments_with_variables() -> None:
    assert command({"command": ["a", "$(X)"], "args": ["$(Y)", "$$(X)"]}, {"X": "1"}) == ["a", "1", "$(Y)", "$(X)"]
    assert command({"args": ["only"]}, {}) == ["only"]
    assert command({}, {}) == ["sleep", "infinity"]
    assert expand("$(A)$(B)", {"A": "$(B)", "B": "2"}) == "$(B)2", "what is put in isn't expanded again"


def test_later_variables_may_use_earlier_ones() -> None:
    pod = {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"nodeName": "n"}}
    spec = {"env": [
        {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"},
        {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]}  # fmt: skip
    env = environment(pod, spec, ["10.0.0.1"], ["10.1.0.1"])
    assert (env["B"], env["L"], env["N"], env["HOSTNAME"]) == ("12", "web", "n", "p")


class Ended:
    """A process that has ended."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.mark.parametrize(
    ("codes", "policy", "expected"),
    [
        ([0, 0], "Never", "Succeeded"), ([0, 1], "Never", "Failed"), ([0, 0], "OnFailure", "Succeeded"),
        ([0, 1], "OnFailure", "Running"), ([0, 0], "Always", "Running"), ([0, None], "Never", "Running"),
    ],
)  # fmt: skip
def test_phases(codes: list[int | None], policy: str, expected: str) -> None:
    containers = [Container({"name": "c"}, Ended(code) if code is not None else None) for code in codes]  # type: ignore[arg-type]
    assert phase(containers, policy, True) == expected
    assert phase(containers, policy, False) == "Pending"


# -- scheduler and workloads --------------------------------------------------------------------------------


def node(name: str = "n", *, ready: str = "True", **labels: str) -> Json:
    return {
        "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }  # fmt: skip


def test_pods_go_only_where_they_fit() -> None:
    assert fits({"spec": {}}, node())
    assert not fits({"spec": {}}, node(ready="Unknown"))
    assert not fits({"spec": {"nodeSelector": {"disk": "ssd"}}}, node())
    assert fits({"spec": {"nodeSelector": {"disk": "ssd"}}}, node(disk="ssd"))
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    pinned = {"spec": {"affinity": {"nodeAffinity": required}}}
    assert fits(pinned, node("n"))
    assert not fits(pinned, node("m"))


def test_shares_round_as_kubernetes_does() -> None:
    assert [_share("25%", 3, up=True), _share("25%", 3, up=False), _share(2, 3, up=True)] == [1, 0, 2]


def test_the_order_of_a_templates_keys_does_not_matter() -> None:
    assert template_hash({"a": 1, "b": {"c": 2, "d": 3}}) == template_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})


# -- endpoints ----------------------------------------------------------------------------------------------


def pod(name: str, *addresses: str, ready: bool = True, port: int = 8080, **extra: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}, **extra},
        "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": port}]}]},
        "status": {
            "podIPs": [{"ip": address} for address in addresses],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }  # fmt: skip


def service(*families: str, **extra: Any) -> Json:
    return {
        "metadata": {"name": "s", "namespace": "d", "uid": "s"},
        "spec": {
            "selector": {"app": "web"}, "ipFamilies": list(families),
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}], **extra,
        },
    }  # fmt: skip


def test_a_slice_per_family() -> None:
    found = list(slices(service("IPv4", "IPv6"), [pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2")]))
    shown = {item["addressType"]: [e["addresses"][0] for e in item["endpoints"]] for item in found}
    assert shown == {"IPv4": ["10.0.0.1", "10.0.0.2"], "IPv6": ["fd00::1"]}


def test_a_named_port_with_different_numbers_makes_two_slices() -> None:
    found = list(slices(service("IPv4"), [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", port=9090)]))
    assert sorted((item["ports"][0]["port"], item["endpoints"][0]["addresses"][0]) for item in found) == [
        (8080, "10.0.0.1"), (9090, "10.0.0.2"),
    ]  # fmt: skip
    assert len({item["metadata"]["name"] for item in found}) == 2


def test_a_named_port_of_a_sidecar_is_an_endpoint_and_that_of_an_init_container_is_not() -> None:
    made = pod("a", "10.0.0.1")
    port = {"name": "web", "containerPort": 9443}
    made["spec"] = {"nodeName": "n", "containers": [{}], "initContainers": [
        {"ports": [{"name": "web", "containerPort": 1}]}, {"restartPolicy": "Always", "ports": [port]},
    ]}  # fmt: skip
    [found] = slices(service("IPv4"), [made])
    assert [item["port"] for item in found["ports"]] == [9443]


@pytest.mark.parametrize(
    ("ready", "deleting", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, False, True, (True, False, False)),
    ],
)
def test_conditions_of_an_endpoint(
    ready: bool, deleting: bool, publish: bool, expected: tuple[bool, bool, bool]
) -> None:
    extra = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    made = service("IPv4", publishNotReadyAddresses=publish)
    conditions = next(slices(made, [pod("a", "10.0.0.1", ready=ready, **extra)]))["endpoints"][0]["conditions"]  # type: ignore[arg-type]
    assert (conditions["ready"], conditions["serving"], conditions["terminating"]) == expected


# -- SCTP ---------------------------------------------------------------------------------------------------------


def test_scapy_reads_our_sctp() -> None:
    asked = sctp.init(40000, 2906, 7)
    answer = sctp.init_ack(sctp.Packet(40000, 2906, sctp.INIT, 7), b"odd")
    first, second = SCTP(asked), SCTP(answer)
    assert (first.sport, first.dport, first.tag, first[SCTPChunkInit].init_tag) == (40000, 2906, 0, 7)
    assert (second.sport, second.dport, second.tag, second[SCTPChunkInitAck].init_tag) == (2906, 40000, 7, 7)
    assert second[SCTPChunkParamStateCookie].cookie == b"odd"
    for packet, raw in (first, asked), (second, answer):
        del packet.chksum
        assert bytes(packet) == raw, "scapy computes the same checksum"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_we_read_scapys_sctp(family: socket.AddressFamily) -> None:
    def received(packet: bytes) -> sctp.Packet | None:
        return sctp.read((b"\x45" + bytes(19) if family == socket.AF_INET else b"") + packet, family)

    asked = bytes(SCTP(sport=40000, dport=2906) / SCTPChunkInit(init_tag=7))
    assert received(asked) == sctp.Packet(40000, 2906, sctp.INIT, 7)
    for cookie in (b"odd", b"even"):
        chunk = SCTPChunkInitAck(init_tag=7, params=[SCTPChunkParamStateCookie(cookie=cookie)])
        answer = bytes(SCTP(sport=2906, dport=40000, tag=7) / chunk)
        assert received(answer) == sctp.Packet(2906, 40000, sctp.INIT_ACK, 7, cookie)
    assert received(asked[:-1] + b"\x02") is None, "a wrong checksum"
    assert received(b"short") is None
