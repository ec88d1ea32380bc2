"""The configuration: layers, origins, and one clear line for whatever is wrong."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from attrs.validators import ge

from ovnkit.api.config import ClusterSubnet
from ovnkit.api.errors import ConfigError
from ovnkit.config.load import Loaded, Override, load_config


@frozen
class Band:
    low: int = 1
    high_mark: int = 2


@frozen
class RadioOptions:
    channel: int = field(default=7, validator=ge(1))
    names: tuple[str, ...] = ()
    band: Band = Band()


def load(tmp_path: Path, text: str = "", **arguments: Any) -> Loaded:
    file = tmp_path / "ovnkit.toml"
    file.write_text(text)
    return load_config(str(file), plugin_options={"radio": RadioOptions}, **arguments)


def problem(tmp_path: Path, text: str = "", **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_upstreams() -> None:
    loaded = load_config(environ={})
    config = loaded.config
    assert str(config.default.cluster_subnets[0]) == "10.128.0.0/14/23"
    assert config.default.mtu == 1400
    assert config.default.encap_port == 6081
    assert config.join_subnet(4) == ip_network("100.64.0.0/16")
    assert config.transit_subnet(6) == ip_network("fd97::/64")
    assert config.clustermgrha.election_lease_duration == 137
    assert str(loaded.origin("default", "mtu")) == "built-in default"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/nothing\.toml: the configuration file doesn't exist"):
        load_config(str(tmp_path / "nothing.toml"))


def test_layers_and_origins(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "[default]\nmtu = 1300\nzone = 'file'\nencap-port = 7000\n[kubernetes]\ntoken-file = '/in/file'\n",
        environ={
            "OVNKIT_DEFAULT__MTU": "1280",
            "OVNKIT_DEFAULT__ENCAP_PORT": "7001",
            "KUBECONFIG": "/ambient",
            "K8S_TOKEN_FILE": "/ambient/token",
            "OVNKIT_LAB": "not ours to read",
        },
        overrides=[Override.parse("default.encap-port=7002")],
    )
    default, kubernetes = loaded.config.default, loaded.config.kubernetes
    assert (default.zone, default.mtu, default.encap_port) == ("file", 1280, 7002)
    assert (kubernetes.kubeconfig, kubernetes.token_file) == ("/ambient", "/in/file")
    assert str(loaded.origin("default", "zone")) == str(tmp_path / "ovnkit.toml")
    assert str(loaded.origin("default", "mtu")) == "environment OVNKIT_DEFAULT__MTU"
    assert str(loaded.origin("default", "encap-port")) == "command line --set"
    assert str(loaded.origin("kubernetes", "kubeconfig")) == "environment KUBECONFIG"


def test_plugin_section(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "[radio]\nnames = ['a', 'b']\nband = { low = 3, high-mark = 9 }\n",
        environ={"OVNKIT_RADIO__CHANNEL": "11"},
    )
    assert loaded.config.options("radio", RadioOptions) == RadioOptions(11, ("a", "b"), Band(3, 9))


def test_section_of_a_plugin_that_failed_to_load_is_a_remark(tmp_path: Path) -> None:
    loaded = load(tmp_path, "[sonar]\ndepth = 3\n", broken_plugins={"sonar": "no such module"})
    assert "[sonar]" in loaded.remarks[0]


@pytest.mark.parametrize("value", ["'10.0.0.0/16/24,fd00::/48'", "['10.0.0.0/16', 'fd00::/48/64']"])
def test_cluster_subnets_as_upstream_and_as_array(tmp_path: Path, value: Any) -> None:
    text = f"[default]\ncluster-subnets = {value}\n[kubernetes]\nservice-cidrs = '172.30.0.0/16,fd02::/112'\n"
    config = load(tmp_path, text).config
    assert config.default.cluster_subnets == (
        ClusterSubnet(ip_network("10.0.0.0/16"), 24),
        ClusterSubnet(ip_network("fd00::/48"), 64),
    )
    assert config.families == (4, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[defualt]\nmtu = 1\n", "unknown section [defualt]; did you mean 'default'?"),
        ("[default]\nmtuu = 1\n", "unknown key 'mtuu' in section [default]; did you mean 'mtu'?"),
        ("[default]\ncluster_subnets = ''\n", "did you mean 'cluster-subnets'?"),
        ("[gateway]\nmtu = 1\n", "unknown key 'mtu' in section [gateway]; it belongs to [default]"),
        ("mtu = 1400\n", "mtu: a key outside any section: it belongs under [default]"),
        ("[default\n", "not valid TOML"),
        ("[default]\nmtu = '1400'\n", "[default] mtu: expected an integer, got a string ('1400')"),
        ("[default]\nmtu = true\n", "[default] mtu: expected an integer, got a boolean (True)"),
        ("[default]\nmonitor-all = 1\n", "[default] monitor-all: expected a boolean, got an integer (1)"),
        ("[default]\nmtu = 100\n", "[default] mtu: must be >= 576: 100"),
        ("[default]\nzone-mode = 'both'\n", "[default] zone-mode: must be in ('per-node', 'central')"),
        ("[default]\ncluster-subnets = '10.0.0.0'\n", "cluster-subnets: '10.0.0.0' is not a CIDR"),
        (
            "[default]\ncluster-subnets = '10.0.1.0/16'\n",
            "10.0.1.0/16 has host bits set; the network is 10.0.0.0/16",
        ),
        ("[default]\ncluster-subnets = '10.0.0.0/24/23'\n", "host prefix length 23 must be greater than 24"),
        ("[default]\ncluster-subnets = 'fd00::/48/80'\n", "the host prefix length of an IPv6 network must be 64"),
        ("[gateway]\nv4-join-subnet = 'fd00::/48'\n", "v4-join-subnet: expected an IPv4 network, got 'fd00::/48'"),
        ("[gateway]\nvlan-id = 7\n", "[gateway] vlan-id: a VLAN needs mode = 'shared'"),
        ("[clustermgrha]\nelection-retry-period = 900\n", "[clustermgrha]: must be election-lease-duration >"),
        ("[kubernetes]\nno-hostsubnet-nodes = 'a b'\n", "no-hostsubnet-nodes: 'a b' is not a label selector"),
        ("[radio]\nchannel = 0\n", "[radio] channel: must be >= 1: 0"),
        ("[radio]\nband = { lwo = 1 }\n", "[radio] band: unknown key 'lwo'"),
        ("[television]\n", "unknown section [television]; no plugin with this name and options is installed"),
    ],
)
def test_what_is_wrong_is_one_line_with_key_and_file(tmp_path: Path, text: str, expected: Any) -> None:
    message = problem(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'ovnkit.toml'}: ")
    assert expected in message


SUBNETS = {
    "[default] cluster-subnets": "10.128.0.0/14",
    "[kubernetes] service-cidrs": "172.16.1.0/24",
    "[gateway] v4-join-subnet": "100.64.0.0/16",
    "[gateway] v4-masquerade-subnet": "169.254.169.0/29",
    "[clustermanager] v4-transit-subnet": "100.88.0.0/16",
}


@pytest.mark.parametrize("one", SUBNETS)
@pytest.mark.parametrize("other", SUBNETS)
def test_each_pair_of_subnets_may_not_overlap(tmp_path: Path, one: Any, other: Any) -> None:
    if one == other:
        return
    section, key = one.split(" ")
    network = ip_network(SUBNETS[other])
    value = str(network.supernet(new_prefix=min(16, network.prefixlen)))
    message = problem(tmp_path, f"{section}\n{key} = '{value}'\n")
    assert message == f"{tmp_path / 'ovnkit.toml'}: {one} {value} overlaps {other} {SUBNETS[other]}"


def test_ipv6_subnets_may_not_overlap_either(tmp_path: Path) -> None:
    assert "overlaps" in problem(tmp_path, "[gateway]\nv6-join-subnet = 'fd97::/48'\n")


@pytest.mark.parametrize(
    ("cluster", "service", "expected"),
    [
        ("fd00::/48", "172.16.1.0/24", "IPv6 cluster network, IPv4 service network"),
        ("10.0.0.0/16,fd00::/48", "172.16.1.0/24", "dual-stack cluster network, IPv4 service network"),
        ("10.0.0.0/16", "172.16.1.0/24,fd02::/112", "IPv4 cluster network, dual-stack service network"),
        ("", "172.16.1.0/24", "no subnet is given"),
    ],
)
def test_families_must_agree(tmp_path: Path, cluster: Any, service: Any, expected: Any) -> None:
    text = f"[default]\ncluster-subnets = '{cluster}'\n[kubernetes]\nservice-cidrs = '{service}'\n"
    assert f"illegal network configuration: {expected}" in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OVNKIT_DEFAULT__MTU", "big", "[default] mtu: expected an integer, got 'big'"),
        ("OVNKIT_DEFAULT__MONITOR_ALL", "maybe", "expected true or false, got 'maybe'"),
        ("OVNKIT_DEFAULT__MUT", "1", "did you mean 'mtu'?"),
        ("OVNKIT_NOTHING__MTU", "1", "unknown section [nothing]"),
    ],
)
def test_wrong_environment_names_the_variable(tmp_path: Path, variable: Any, value: Any, expected: Any) -> None:
    message = problem(tmp_path, environ={variable: value})
    assert message.startswith(f"environment {variable}: ")
    assert expected in message


def test_override_must_be_section_key_value() -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        Override.parse("mtu=3")
