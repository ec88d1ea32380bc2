"""What the configuration must satisfy as a whole: subnets that don't overlap, families that agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, OvnkitError
from ovnkit.api.text import Network

Origins = Mapping[tuple[str, str], str]


@frozen
class _Subnet:
    section: str
    key: str
    network: Network

    @property
    def name(self) -> str:
        return f"[{self.section}] {self.key} {self.network}"


def check_config(config: Config, origins: Origins) -> None:
    """Raise ConfigError if the sections don't fit together. `origins` say where each value was set."""
    _check_families(config, origins)
    _check_overlaps(config, origins)
    _check_gateway(config, origins)
    _check_election(config, origins)
    try:
        _ = config.kubernetes.no_hostsubnet_selector
    except OvnkitError as error:
        where = _where(origins, ("kubernetes", "no-hostsubnet-nodes"))
        raise ConfigError(f"{where}: [kubernetes] no-hostsubnet-nodes: {error}") from None


def _where(origins: Origins, *names: tuple[str, str]) -> str:
    """Where the value that somebody set came from; the first of `names` that isn't a built-in default."""
    return next((origins[name] for name in names if name in origins), "built-in default")


def _subnets(config: Config) -> Iterable[_Subnet]:
    """Every network that ovnkit takes for itself, those of unused families included, as upstream does."""
    for subnet in config.default.cluster_subnets:
        yield _Subnet("default", "cluster-subnets", subnet.network)
    for network in config.kubernetes.service_cidrs:
        yield _Subnet("kubernetes", "service-cidrs", network)
    for family in (4, 6):
        yield _Subnet("gateway", f"v{family}-join-subnet", config.join_subnet(family))
        yield _Subnet("gateway", f"v{family}-masquerade-subnet", config.masquerade_subnet(family))
        yield _Subnet("clustermanager", f"v{family}-transit-subnet", config.transit_subnet(family))


def _check_overlaps(config: Config, origins: Origins) -> None:
    for one, other in combinations(_subnets(config), 2):
        if one.network.version == other.network.version and _overlap(one.network, other.network):
            first, second = sorted((one, other), key=lambda item: (item.section, item.key) not in origins)
            where = _where(origins, (first.section, first.key), (second.section, second.key))
            raise ConfigError(f"{where}: {first.name} overlaps {second.name}")


def _overlap(one: Network, other: Network) -> bool:
    low, high = max(one[0].packed, other[0].packed), min(one[-1].packed, other[-1].packed)
    return low <= high


def _families(networks: Iterable[Network]) -> tuple[int, ...]:
    return tuple(sorted({network.version for network in networks}))


def _check_families(config: Config, origins: Origins) -> None:
    cluster = config.families
    service = _families(config.kubernetes.service_cidrs)
    names = {(): "no", (4,): "IPv4", (6,): "IPv6", (4, 6): "dual-stack"}
    where = _where(origins, ("default", "cluster-subnets"), ("kubernetes", "service-cidrs"))
    if not cluster:
        raise ConfigError(f"{where}: [default] cluster-subnets: illegal network configuration: no subnet is given")
    if cluster != service:
        raise ConfigError(
            f"{where}: [default] cluster-subnets, [kubernetes] service-cidrs: illegal network configuration: "
            f"{names[cluster]} cluster network, {names[service]} service network"
        )


def _check_gateway(config: Config, origins: Origins) -> None:
    gateway = config.gateway
    if gateway.vlan_id and gateway.mode != "shared":
        where = _where(origins, ("gateway", "vlan-id"))
        raise ConfigError(f"{where}: [gateway] vlan-id: a VLAN needs mode = 'shared', not {gateway.mode!r}")
    for key, network, least in (
        ("v4-masquerade-subnet", gateway.v4_masquerade_subnet, 29),
        ("v6-masquerade-subnet", gateway.v6_masquerade_subnet, 125),
    ):
        if network.prefixlen > least:
            where = _where(origins, ("gateway", key))
            raise ConfigError(f"{where}: [gateway] {key}: {network} is too small, five addresses are needed")


def _check_election(config: Config, origins: Origins) -> None:
    election = config.clustermgrha
    keys = ("election-lease-duration", "election-renew-deadline", "election-retry-period")
    if election.election_lease_duration > election.election_renew_deadline > election.election_retry_period:
        return
    where = _where(origins, *(("clustermgrha", key) for key in keys))
    raise ConfigError(f"{where}: [clustermgrha]: must be {keys[0]} > {keys[1]} > {keys[2]}")
