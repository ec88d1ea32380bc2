"""The layout of a lab: its nodes, names, addresses and files, as pure functions of its description."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_interface
from pathlib import Path

import cattrs
from attrs import field, frozen

from ovnkit.api.errors import OvnkitError
from ovnkit.api.text import Interface

BASE = Path("/run/ovnkit-lab")
DEFAULT_NAME = "lab"
CONTROL = "control"
EXTERNAL = "external"
FABRIC = "fabric"
BRIDGE = "br-ex"
UPLINK = "eth0"

POD_SUBNETS = {4: "10.244.0.0/16/24", 6: "fd00:10:244::/48/64"}
SERVICE_SUBNETS = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
FABRIC_NETWORKS: dict[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("172.18.0.0/16"),
    6: IPv6Network("fd00:172:18::/64"),
}
_FIXED_HOSTS = {FABRIC: 1, CONTROL: 2, EXTERNAL: 3}
_FIRST_NODE = 11
MAX_NODES = 200
MAX_LABS = 64
API_PORT = 6443
NB_PORT = 6641
SB_PORT = 6642

_MAX_FILE_NAME = 200
"""Bytes; file systems take 255, and some are for what is appended."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
_FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}


class LabError(OvnkitError):
    """A lab operation failed; the text is the cause, in one line."""


def check_name(name: str) -> str:
    """The name, if it is valid for a lab (it becomes part of namespaces and paths); raises LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(f"lab name {name!r} is not valid: 1 to 20 of a-z, 0-9 and -, with no - at either end")
    return name


@frozen
class Kubernetes:
    """Paths of the programs of Kubernetes; empty for those that weren't found.

    `assets` is the directory that `KUBEBUILDER_ASSETS` named, if kube-apiserver was found there.
    """

    apiserver: str
    etcd: str
    controller_manager: str = ""
    scheduler: str = ""
    assets: str = ""


@frozen
class LabSpec:
    """The description of a lab, as it was asked for. `index` tells the labs of this machine apart; it begins at 0.

    `ovn_root` is where OVN's programs are (`/`: the host's). `config` is the text of the user's configuration.
    `kubernetes` is what was found when the lab was created; without it the lab uses kubelab.
    """

    name: str
    nodes: tuple[str, ...]
    zones: str = "per-node"
    ip_family: str = "ipv4"
    ovn_root: str = "/"
    index: int = 0
    config: str = field(default="", repr=False)
    kubernetes: Kubernetes | None = None

    @property
    def families(self) -> tuple[int, ...]:
        """IP versions in use, the first one preferred."""
        return _FAMILIES[self.ip_family]

    @property
    def per_node_zones(self) -> bool:
        """Whether each node has its own northbound and southbound."""
        return self.zones == "per-node"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that has a namespace, the fabric itself first."""
        return (FABRIC, CONTROL, EXTERNAL, *self.nodes)

    def roles(self, host: str) -> tuple[str, ...]:
        """The roles of ovnkit on a host."""
        if host == CONTROL:
            return ("cluster",) if self.per_node_zones else ("cluster", "zone")
        return ("zone", "node") if self.per_node_zones else ("node",)

    def account(self, host: str) -> str:
        """The service account of ovnkit on a host: one for the control host, one for all nodes."""
        return "ovnkit-control" if host == CONTROL else "ovnkit-node"

    @property
    def bare_uplinks(self) -> bool:
        """Whether ovnkit creates the nodes' external bridge: with `[gateway] interface = "eth0"`."""
        gateway = tomllib.loads(self.config).get("gateway") or {}
        return isinstance(gateway, dict) and gateway.get("interface") == UPLINK

    def netns(self, host: str) -> str:
        """Name of the network namespace of a node, `control`, `external`, `fabric` or a pod's sandbox."""
        return f"{netns_prefix(self.name)}{host}"

    def addresses(self, host: str) -> tuple[Interface, ...]:
        """Fabric addresses of a host with their prefix lengths."""
        number = _FIXED_HOSTS.get(host) or _FIRST_NODE + self.nodes.index(host)
        return tuple(_numbered(family, number) for family in self.families)

    def mac(self, host: str) -> str:
        """MAC address of a host's uplink."""
        number = _FIXED_HOSTS.get(host) or _FIRST_NODE + self.nodes.index(host)
        return f"02:42:ac:12:00:{number:02x}"

    @property
    def gateways(self) -> tuple[Interface, ...]:
        """Addresses of the fabric's bridge, the hosts' default gateway."""
        return self.addresses(FABRIC)

    @property
    def api_link(self) -> tuple[Interface, Interface]:
        """Addresses of the link that kubectl uses: of the machine's end and of the control host's."""
        if self.families[0] == 6:
            network = f"fd00:169:254:{64 + self.index}"
            return ip_interface(f"{network}::1/64"), ip_interface(f"{network}::2/64")
        network = f"169.254.{64 + self.index}"
        return ip_interface(f"{network}.1/30"), ip_interface(f"{network}.2/30")

    @property
    def api_link_name(self) -> str:
        """Name of the machine's end of `api_link`."""
        return f"ovnlab{self.index}"

    def database(self, host: str, db: str) -> str:
        """Endpoint of a node's `nb` or `sb`, as the node's daemons reach it."""
        if self.per_node_zones:
            return f"unix:{Files(self.name).ovn(host) / f'ovn{db}_db.sock'}"
        port = NB_PORT if db == "nb" else SB_PORT
        return f"tcp:{bracketed(self.addresses(CONTROL)[0])}:{port}"

    def save(self) -> None:
        """Write it to the lab's directory."""
        path = Files(self.name).spec
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(cattrs.unstructure(self), indent=2))
        partial.rename(path)


@frozen
class Files:
    """Where a lab keeps its files."""

    name: str

    @property
    def base(self) -> Path:
        """Directory of the lab."""
        return BASE / self.name

    @property
    def spec(self) -> Path:
        """The lab's description."""
        return self.base / "lab.json"

    @property
    def ready(self) -> Path:
        """Exists once `up` has finished."""
        return self.base / "ready"

    @property
    def pki(self) -> Path:
        """Certificates, keys and tokens."""
        return self.base / "pki"

    def ovnkit_kubeconfig(self, account: str) -> Path:
        """The kubeconfig of a service account of ovnkit, for use in the fabric."""
        return self.base / f"{account}.kubeconfig"

    @property
    def kubeconfig(self) -> Path:
        """The user's (administrator's) kubeconfig, for use on the machine."""
        return self.base / "kubeconfig"

    @property
    def fabric_kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use on the hosts of the fabric."""
        return self.base / "fabric.kubeconfig"

    @property
    def bin(self) -> Path:
        """Scripts that run the lab's OVN and Open vSwitch tools."""
        return self.base / "bin"

    @property
    def pods(self) -> Path:
        """One file per running pod."""
        return self.base / "pods"

    def host(self, host: str) -> Path:
        """Directory of a node or of `control`."""
        return self.base / host

    def ovs(self, host: str) -> Path:
        """Run directory of a node's Open vSwitch."""
        return self.host(host) / "openvswitch"

    def ovn(self, host: str) -> Path:
        """Run directory of a host's OVN daemons."""
        return self.host(host) / "ovn"

    def log(self, host: str) -> Path:
        """Log directory of a host."""
        return self.host(host) / "log"

    def cni_conf(self, host: str) -> Path:
        """Directory of a node's CNI configuration."""
        return self.host(host) / "cni" / "net.d"

    def cni_bin(self, host: str) -> Path:
        """Directory of a node's CNI executables."""
        return self.host(host) / "cni" / "bin"

    def cni_run(self, host: str) -> Path:
        """Directory of a node's CNI server socket."""
        return self.host(host) / "cni" / "run"

    def config(self, host: str) -> Path:
        """Configuration file of a host's ovnkit process."""
        return self.host(host) / "ovnkit.toml"

    def restarts(self, host: str) -> Path:
        """Record of the restarts of a host's ovnkit."""
        return self.host(host) / "ovnkit.restarts"

    def down_marker(self, host: str) -> Path:
        """Exists while a node is down on purpose."""
        return self.host(host) / "down"


def netns_prefix(lab: str) -> str:
    """Prefix of the names of a lab's namespaces. Lab names have no dot, so no lab has the prefix of another."""
    return f"ovnlab-{lab}."


def pod_directory(namespace: str, name: str) -> str:
    """Prefix of the name of a pod's log directory: unique, and short enough for a file name."""
    text = f"{namespace}_{name}"
    if len(text) <= _MAX_FILE_NAME:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: _MAX_FILE_NAME - len(digest) - 1]}-{digest}"


def bracketed(interface: Interface) -> str:
    """An address as part of an endpoint or URL."""
    return f"[{interface.ip}]" if interface.version == 6 else str(interface.ip)


def load(name: str) -> LabSpec:
    """The description of an existing lab; raises LabError when there is none."""
    path = Files(check_name(name)).spec
    try:
        return cattrs.structure(json.loads(path.read_text()), LabSpec)
    except FileNotFoundError:
        raise LabError(f"there is no lab {name!r}; `ovnkit lab up --name {name}` creates it") from None
    except (ValueError, cattrs.BaseValidationError) as error:
        raise LabError(f"{path}: {error}; `ovnkit lab down --name {name}` removes the lab") from None


def existing() -> list[str]:
    """Names of all labs that have a directory."""
    if not BASE.is_dir():
        return []
    return sorted(path.name for path in BASE.iterdir() if path.is_dir())


def free_index(taken: Iterable[int]) -> int:
    """The smallest lab number that isn't taken; raises LabError when there are too many labs."""
    used = set(taken)
    for index in range(MAX_LABS):
        if index not in used:
            return index
    raise LabError(f"there are {MAX_LABS} labs already, which is the maximum")


def _numbered(family: int, number: int) -> Interface:
    network = FABRIC_NETWORKS[family]
    # In IPv6 the host's number is written in decimal digits, so that ::11 goes with .11.
    host = number if family == 4 else int(str(number), 16)
    return ip_interface(f"{network[host]}/{network.prefixlen}")
