"""The configuration every plugin may read, as attrs classes. Sections and keys carry upstream's names.

A field's key in the file is its name with `-` for `_`. The loader in the kernel structures TOML, environment
and command line into these classes and adds a section per plugin (the class its `ovnkit_options` hook names).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from attrs.validators import and_, ge, in_, le

from ovnkit.api.errors import ConfigError
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Network, parse_network, parse_number

__all__ = [
    "ClusterHaOptions",
    "ClusterManagerOptions",
    "ClusterSubnet",
    "CniOptions",
    "Config",
    "DatabaseOptions",
    "DefaultOptions",
    "GatewayOptions",
    "KubernetesOptions",
    "LoggingOptions",
    "MetricsOptions",
    "OvsPathsOptions",
    "PluginsOptions",
]

T = TypeVar("T")

_PORT = and_(ge(1), le(65535))
_NOT_NEGATIVE = ge(0)


@frozen
class ClusterSubnet:
    """One entry of `cluster-subnets`: a network and the prefix length of each node's slice of it.

    Written `10.128.0.0/14/23`; without the second length it is 24 for IPv4 and 64 for IPv6.
    """

    network: Network
    host_prefix: int

    @classmethod
    def parse(cls, text: str) -> ClusterSubnet:
        """The entry as upstream writes it; raises ValueError. Node slices of IPv6 are always /64."""
        cidr, _, host = text.rpartition("/") if text.count("/") == 2 else (text, "", "")
        network = parse_network(cidr, strict=True)
        try:
            prefix = parse_number(host, 0, 128) if host else (24 if network.version == 4 else 64)
        except ValueError as error:
            raise ValueError(f"{text}: host prefix length {error}") from None
        if network.version == 6 and prefix != 64:
            raise ValueError(f"{text}: the host prefix length of an IPv6 network must be 64")
        if prefix <= network.prefixlen:
            raise ValueError(f"{text}: host prefix length {prefix} must be greater than {network.prefixlen}")
        if network.version == 4 and prefix > 29:
            raise ValueError(f"{text}: host prefix length {prefix} leaves no room for pods (29 at most)")
        return cls(network, prefix)

    def __str__(self) -> str:
        return f"{self.network}/{self.host_prefix}"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(parse_network(text, strict=True) for text in texts)


@frozen
class DefaultOptions:
    """Section `[default]`: what every part of the network agrees on.

    `mtu` of pod interfaces in bytes; `encap_port` UDP port of Geneve; `conntrack_zone` first zone of ovnkit's;
    `inactivity_probe` and `openflow_probe` in milliseconds (OVN's keys `ovn-remote-probe-interval`,
    `ovn-bridge-remote-probe-interval`); `db_txn_timeout` in seconds. Defaults are upstream's.
    """

    mtu: int = field(default=1400, validator=and_(ge(576), le(65535)))
    routable_mtu: int = field(default=0, validator=_NOT_NEGATIVE)
    conntrack_zone: int = field(default=64000, validator=and_(ge(0), le(65531)))
    encap_type: str = field(default="geneve", validator=in_(("geneve", "vxlan")))
    encap_ip: str = ""
    encap_port: int = field(default=6081, validator=_PORT)
    inactivity_probe: int = field(default=100_000, validator=_NOT_NEGATIVE)
    openflow_probe: int = field(default=0, validator=_NOT_NEGATIVE)
    db_txn_timeout: int = field(default=100, validator=ge(1))
    monitor_all: bool = True
    ofctrl_wait_before_clear: int = field(default=0, validator=_NOT_NEGATIVE)
    enable_lflow_cache: bool = True
    cluster_subnets: tuple[ClusterSubnet, ...] = (ClusterSubnet(IPv4Network("10.128.0.0/14"), 23),)
    zone: str = ""
    zone_mode: str = field(default="per-node", validator=in_(("per-node", "central")))
    disable_requestedchassis: bool = False


@frozen
class KubernetesOptions:
    """Section `[kubernetes]`: how the API server is reached, and cluster-wide names."""

    kubeconfig: str = ""
    apiserver: str = ""
    token: str = ""
    token_file: str = ""
    cacert: str = ""
    service_cidrs: tuple[Network, ...] = _networks("172.16.1.0/24")
    ovn_config_namespace: str = "ovn-kubernetes"
    host_network_namespace: str = ""
    no_hostsubnet_nodes: str = ""

    @property
    def no_hostsubnet_selector(self) -> LabelSelector | None:
        """Selector of the nodes that get no subnet; None when every node gets one."""
        return LabelSelector.from_text(self.no_hostsubnet_nodes) if self.no_hostsubnet_nodes.strip() else None


@frozen
class GatewayOptions:
    """Section `[gateway]`: addresses every part agrees on, and how nodes reach the outside."""

    mode: str = field(default="", validator=in_(("", "shared", "local")))
    interface: str = ""
    bridge: str = ""
    next_hop: str = ""
    vlan_id: int = field(default=0, validator=and_(ge(0), le(4094)))
    nodeport: bool = False
    disable_snat_multiple_gws: bool = False
    disable_forwarding: bool = False
    disable_pkt_mtu_check: bool = False
    allow_no_uplink: bool = False
    single_node: bool = False
    ephemeral_port_range: str = ""
    router_subnet: str = ""
    v4_join_subnet: IPv4Network = IPv4Network("100.64.0.0/16")
    v6_join_subnet: IPv6Network = IPv6Network("fd98::/64")
    v4_masquerade_subnet: IPv4Network = IPv4Network("169.254.169.0/29")
    v6_masquerade_subnet: IPv6Network = IPv6Network("fd69::/125")


@frozen
class ClusterManagerOptions:
    """Section `[clustermanager]`."""

    v4_transit_subnet: IPv4Network = IPv4Network("100.88.0.0/16")
    v6_transit_subnet: IPv6Network = IPv6Network("fd97::/64")


@frozen
class DatabaseOptions:
    """Sections `[ovnnorth]` and `[ovnsouth]`: endpoints (`unix:`, `tcp:`, `ssl:`, comma list) and TLS files."""

    address: str = ""
    client_privkey: str = ""
    client_cert: str = ""
    client_cacert: str = ""
    cert_common_name: str = ""


@frozen
class OvsPathsOptions:
    """Section `[ovspaths]`: run directories of Open vSwitch and OVN on this node, and where OVN logs."""

    ovs_run_dir: str = "/var/run/openvswitch"
    ovn_run_dir: str = "/var/run/ovn"
    ovn_log_dir: str = "/var/log/ovn"


@frozen
class CniOptions:
    """Section `[cni]`."""

    conf_dir: str = "/etc/cni/net.d"
    plugin: str = "ovn-k8s-cni-overlay"
    bin_dir: str = "/opt/cni/bin"
    run_dir: str = "/var/run/ovn-kubernetes/cni"
    logfile: str = "/var/log/ovn-kubernetes/ovn-k8s-cni-overlay.log"


@frozen
class ClusterHaOptions:
    """Section `[clustermgrha]`: leader election, in seconds; lease > renew > retry."""

    election_lease_duration: int = field(default=137, validator=ge(1))
    election_renew_deadline: int = field(default=107, validator=ge(1))
    election_retry_period: int = field(default=26, validator=ge(1))


@frozen
class PluginsOptions:
    """Section `[plugins]`: which plugins run. `enabled` adds to the defaults, `disabled` wins."""

    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


@frozen
class LoggingOptions:
    """Section `[logging]`: `level` is debug, info, warning or error; `format` is `json` or `console`."""

    level: str = field(default="info", validator=in_(("debug", "info", "warning", "error")))
    format: str = field(default="json", validator=in_(("json", "console")))


@frozen
class MetricsOptions:
    """Section `[metrics]`: `bind_address` is `host:port` for /metrics, /healthz and /readyz; empty means none.

    `socket` is the unix socket for the same and /status, readable by root only; by default
    `ovnkit-<roles>.sock` in OVN's run directory.
    """

    bind_address: str = ""
    socket: str = ""


@frozen
class Config:
    """The effective configuration. `plugins_options` maps a plugin's name to its options object."""

    default: DefaultOptions = DefaultOptions()
    kubernetes: KubernetesOptions = KubernetesOptions()
    gateway: GatewayOptions = GatewayOptions()
    clustermanager: ClusterManagerOptions = ClusterManagerOptions()
    ovnnorth: DatabaseOptions = DatabaseOptions()
    ovnsouth: DatabaseOptions = DatabaseOptions()
    ovspaths: OvsPathsOptions = OvsPathsOptions()
    cni: CniOptions = CniOptions()
    clustermgrha: ClusterHaOptions = ClusterHaOptions()
    plugins: PluginsOptions = PluginsOptions()
    logging: LoggingOptions = LoggingOptions()
    metrics: MetricsOptions = MetricsOptions()
    plugin_options: Mapping[str, Any] = field(factory=dict, hash=False)

    def options(self, plugin: str, cls: type[T]) -> T:
        """The options of a plugin; raises ConfigError when they are not of the class asked for."""
        found = self.plugin_options.get(plugin)
        if found is None:
            return cls()
        if not isinstance(found, cls):
            raise ConfigError(f"[{plugin}]: options are {type(found).__name__}, not {cls.__name__}")
        return found

    @property
    def families(self) -> tuple[int, ...]:
        """IP versions of the cluster network: (4,), (6,) or (4, 6)."""
        return tuple(sorted({subnet.network.version for subnet in self.default.cluster_subnets}))

    def join_subnet(self, family: int) -> Network:
        """Subnet of the join switch for an IP version."""
        return self.gateway.v4_join_subnet if family == 4 else self.gateway.v6_join_subnet

    def masquerade_subnet(self, family: int) -> Network:
        """Masquerade subnet for an IP version."""
        return self.gateway.v4_masquerade_subnet if family == 4 else self.gateway.v6_masquerade_subnet

    def transit_subnet(self, family: int) -> Network:
        """Subnet of the transit switch for an IP version."""
        manager = self.clustermanager
        return manager.v4_transit_subnet if family == 4 else manager.v6_transit_subnet

    def with_options(self, plugin: str, options: object) -> Config:
        """A copy with the options of one plugin replaced (tests)."""
        return evolve(self, plugin_options={**self.plugin_options, plugin: options})
