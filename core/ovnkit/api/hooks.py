"""The hooks: the whole contract between the core and its plugins. `docs/hooks.md` is made from this file.

A plugin is a class with `hookimpl` methods; the entry point names the class, the core makes one instance
without arguments. Each hook is called plugin by plugin: one that raises is named, counted, and stops nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Concatenate, Protocol

import click
import pluggy
from attrs import field, frozen

from ovnkit.api.config import Config
from ovnkit.api.identity import RowId
from ovnkit.api.kinds import Changes, Kind, V, View
from ovnkit.api.metrics import Latency, Metric
from ovnkit.api.models import Pod
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import P, T, World

if TYPE_CHECKING:
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

__all__ = [
    "AclLogging",
    "Answerer",
    "AppliedStatus",
    "Columns",
    "Declaration",
    "HookCalls",
    "Hooks",
    "HostFactsReader",
    "PlugRequest",
    "PodInterface",
    "Privilege",
    "Runtime",
    "Scope",
    "Tell",
    "hookimpl",
]

PROJECT = "ovnkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@frozen
class Columns:
    """Columns of a table that a plugin writes.

    `since` is the release that brought them, for messages. `optional` ones may be missing: they are left out then
    (`Row.optional`). What isn't declared is monitored when it is first written, which loads the database again.
    """

    db: str
    table: str
    columns: tuple[str, ...]
    since: str = ""
    optional: bool = False


@frozen
class Privilege:
    """A rule that the plugin needs (rbac.authorization.k8s.io PolicyRule) in processes that hold one of `roles`.

    Reading the declared kinds and writing Events is the core's own. Annotations of Pods, Nodes and Services need
    `patch` of `pods/status`, `nodes/status` and `services/status`. `names` are the objects it is for
    (`resourceNames`; any when empty). With `namespace` it is a rule of a Role there, else of the ClusterRole.
    """

    api_group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    roles: tuple[Role, ...] = tuple(Role)
    names: tuple[str, ...] = ()
    namespace: str = ""


@frozen
class AppliedStatus:
    """Status of a kind's objects that the plugin applies under managers of its own choice (`Status.manager`).

    `ours(manager, status)` recognises what one of them applied, by its name and the object's status as it is. When
    the plugin has been disabled, it goes: a zone or a node takes away what was applied under its own name, the
    cluster role what was under any.
    """

    kind: Kind[View]
    ours: Callable[[str, Mapping[str, Any]], bool]


@frozen
class Declaration:
    """What a plugin is and needs.

    `needs`      plugins that must be enabled and come first; missing ones keep this plugin off
    `after`      plugins that come first when they are enabled
    `kinds`      kinds its renderers read, beyond those of `ovnkit.api.models`
    `columns`    what it writes; a table or column the server lacks keeps the plugin off, with a clear status
    `crds`       CustomResourceDefinition manifests (decoded) it ships
    `applies`    status it applies under managers that it names
    `privileges` what its service account must be allowed
    `latencies`  histograms that the core measures for it
    `default`    whether it is enabled without being named in the configuration
    `unavailable` why it can't be used in this installation, which keeps it off; empty when it can
    """

    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    kinds: tuple[Kind[View], ...] = ()
    columns: tuple[Columns, ...] = ()
    crds: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    applies: tuple[AppliedStatus, ...] = ()
    privileges: tuple[Privilege, ...] = ()
    latencies: tuple[Latency[View], ...] = ()
    default: bool = False
    summary: str = ""
    unavailable: str = ""


@frozen
class Scope:
    """Where this process runs: its roles, node and zone. `node` is empty outside the node role.

    `is_local(name)` says whether a node belongs to this process' zone.
    """

    roles: frozenset[Role]
    node: str
    zone: str
    per_node_zones: bool

    def is_local(self, node: str) -> bool:
        """Whether the node's switch, pods and gateway live in this zone's northbound."""
        return not self.per_node_zones or node == self.zone


class HostFactsReader(Protocol):
    """Reads the views of a kind of host facts once."""

    def __call__(self, kind: Kind[V], /) -> Sequence[V]:
        """The views as they are now."""


class HookCalls(Protocol):
    """How a plugin asks the others: it calls the hooks meant for that (`decide`, `decorate`) through this.

    A hook is named by its specification, and takes the arguments of that by name:
    `hooks.each(Hooks.ovnkit_port_options, world=world, pod=pod)`.

    A plugin that raises is logged and counted under its name, and its answer left out; `Reject` and `Retry`
    pass through to the caller. Safe from any thread, and inside renderers (reads stay tracked).
    """

    def each(
        self, hook: Callable[Concatenate[Any, P], T | None], *args: P.args, **arguments: P.kwargs
    ) -> Sequence[tuple[str, T]]:
        """The answers of all enabled plugins that implement `hook` as (plugin, answer), None left out."""

    def first(
        self, hook: Callable[Concatenate[Any, P], T | None], *args: P.args, **arguments: P.kwargs
    ) -> tuple[str, T] | None:
        """The first answer that is not None, in plugin order, with the plugin's name."""


Tell = Callable[[Kind[View], Changes], None]
"""Tells the views of an `Answers` kind by key, None for an answer that is withdrawn. From any thread."""


class Answerer(Protocol):
    """A plugin's service that finds out what renderers `Ask` about one kind.

    Its methods are called in the reconciler's thread and return at once: threads of the service do the work,
    and give what they found to `tell`. What is told about a key that nobody asks for is ignored.
    """

    @property
    def kind(self) -> Kind[View]:
        """What it answers questions about."""

    def ask(self, keys: Collection[str]) -> None:
        """From now on somebody wants to know, and to be told of changes."""

    def drop(self, keys: Collection[str]) -> None:
        """Nobody wants to know any more."""

    def stop(self) -> None:
        """The process is about to stop."""


class Runtime(Protocol):
    """What a running plugin may use outside renderers (`ovnkit_started`). Safe from any thread."""

    config: Config
    scope: Scope
    hooks: HookCalls

    def get(self, kind: Kind[V], key: str) -> V | None:
        """The object as last observed; not tracked."""

    def list(self, kind: Kind[V], index: str = "", value: str = "") -> Sequence[V]:
        """All objects of a kind as last observed, or those in a bucket of an index; not tracked."""

    def keys(self, kind: Kind[View], index: str = "", value: str = "") -> Collection[str]:
        """Their keys."""

    def wait_for(self, kind: Kind[V], key: str, timeout: float, ready: Callable[[V | None], bool]) -> V | None:
        """Block until `ready(view or None)` is true; the view then. Raises TimeoutError after `timeout` s."""

    def refresh(self, kind: Kind[V], key: str) -> V | None:
        """Read one object from the API server now, past the cache; None when it doesn't exist."""

    def ovs(self) -> OvsdbIdl:
        """ovsdbapp's commands on the node's Open vSwitch database (connected on first use).

        Columns with statistics and status are not there.
        """

    def call_soon(self, function: Callable[[], None]) -> None:
        """Run a function in the reconciler's thread."""

    def disconnected(self, db: str) -> str:
        """Why a database (`nb`, `sb`) doesn't answer; empty while it does, or where it isn't used."""

    def increment(self, db: str, table: str, column: str) -> None:
        """Add one to a number in the only row of a table: NB_Global's nb_cfg, which others raise as well, so that
        no item can hold it. Nothing is done while the database doesn't answer.
        """


@frozen
class PodInterface:
    """How a pod's interface is plugged (the CNI plugin's question to `ovnkit_plug_pod`)."""

    pod: Pod
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    mac: str
    gateways: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    mtu: int


class PlugRequest(Protocol):
    """What the container runtime asks for: an interface `ifname` of the pod's `sandbox` in the network namespace
    `netns` (a path), and a result in the CNI `version`.
    """

    @property
    def sandbox(self) -> str:
        """The container ID of the sandbox."""

    @property
    def netns(self) -> str:
        """Path of its network namespace."""

    @property
    def ifname(self) -> str:
        """Name of the interface in the pod."""

    @property
    def version(self) -> str:
        """Version of the CNI specification that the result is for."""


@frozen
class AclLogging:
    """How ACLs of a namespace are logged: the severity of each kind of verdict, empty when it is not logged."""

    allow: str = ""
    deny: str = ""
    meter: RowId | None = None
    """The meter that logged ACLs name (`ovnkit.network.acl_logging.METER`), where it is ovnkit's."""


class Hooks:
    """The hook specifications."""

    # -- declare ------------------------------------------------------------------------------------------

    @hookspec
    def ovnkit_options(self) -> type | None:
        """An attrs class with the plugin's options: section `[<plugin>]` of the configuration file."""

    @hookspec
    def ovnkit_declare(self, config: Config) -> Declaration:
        """What the plugin is and needs; called once, after the configuration has been read."""
        raise NotImplementedError

    @hookspec
    def ovnkit_check_config(self, config: Config) -> None:
        """Look at the whole configuration; raise ConfigError if the plugin can't work with it."""

    @hookspec
    def ovnkit_check_host(self, config: Config, scope: Scope, facts: HostFactsReader) -> None:
        """Look at this host before anything starts; raise HostError if the plugin can't work on it.

        The process then ends with exit code 1 and nothing has been touched. `facts(kind)` reads a kind whose
        source is `HostFacts` (LINKS, ADDRESSES, ROUTES) or a table of the node's Open vSwitch as it is now;
        without an Open vSwitch its tables are empty.
        """

    # -- render -------------------------------------------------------------------------------------------

    @hookspec
    def ovnkit_renderers(self, config: Config, scope: Scope, hooks: HookCalls) -> Iterable[Renderer]:
        """The renderers for the roles in `scope.roles` (others are left out by the core as well).

        `hooks` asks the other plugins (`hooks.each(Hooks.ovnkit_port_options, world=world, pod=pod)`).
        An implementation may leave out arguments it doesn't use, as with every hook.
        """
        raise NotImplementedError

    @hookspec
    def ovnkit_answerers(self, config: Config, scope: Scope, tell: Tell) -> Iterable[Answerer]:
        """Services that find out what the plugin's renderers `Ask`; called once, before anything is rendered.

        They should do nothing until they are asked.
        """
        raise NotImplementedError

    # -- decide (first result wins) -----------------------------------------------------------------------

    @hookspec(firstresult=True)
    def ovnkit_plug_pod(
        self, runtime: Runtime, interface: PodInterface, request: PlugRequest
    ) -> Mapping[str, Any] | None:
        """Plug a pod's interface in another way than by a veth (SR-IOV, user networks); None to pass.

        The answer is the result that the CNI specification asks for.
        """

    @hookspec(firstresult=True)
    def ovnkit_acl_logging(self, world: World, namespace: str) -> AclLogging | None:
        """How the ACLs of a namespace are to be logged; None to pass. Reads are tracked.

        Plugins that render such ACLs ask through `ovnkit.network.acl_logging.acl_logging`.
        """

    # -- decorate (all contribute) ------------------------------------------------------------------------

    @hookspec
    def ovnkit_port_options(self, world: World, pod: Pod) -> Mapping[str, str] | None:
        """Options to add to a pod's logical switch port; reads are tracked."""

    @hookspec
    def ovnkit_cni_result(self, interface: PodInterface, result: dict[str, Any]) -> None:
        """Add to the CNI result (dns, more routes) in place."""

    # -- observe ------------------------------------------------------------------------------------------

    @hookspec
    def ovnkit_health(self, runtime: Runtime) -> Mapping[str, str] | None:
        """Problems by name, empty when all is well; shown by /readyz and `ovnkit plugins`."""

    @hookspec
    def ovnkit_metrics(self, runtime: Runtime) -> Iterable[Metric]:
        """What operators may want to watch. Asked at each scrape of /metrics, once everything has been rendered.

        Called in threads of their own, so it only reads what is there, and returns at once.
        """
        raise NotImplementedError

    @hookspec
    def ovnkit_explain(self, row: RowId, table: str, external_ids: Mapping[str, str]) -> str | None:
        """One sentence on what a row that the plugin owns is for (`ovnkit explain`)."""

    @hookspec
    def ovnkit_commands(self) -> Iterable[click.Command]:
        """Sub-commands of `ovnkit`. Called without a configuration; a command reads its own."""
        raise NotImplementedError

    # -- lifecycle ----------------------------------------------------------------------------------------

    @hookspec
    def ovnkit_started(self, runtime: Runtime) -> None:
        """Everything has been listed and rendered once; start services (the CNI server)."""

    @hookspec
    def ovnkit_stopping(self, runtime: Runtime) -> None:
        """The process is about to stop; end services. Returns within 5 s."""
