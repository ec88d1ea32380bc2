"""What every plugin must hold to, as a test class to inherit from.

    from ovnkit.testing.conformance import ConformanceSuite

    class TestLabels(ConformanceSuite):
        plugin = "labels"
        scenarios = {"two namespaces": "apiVersion: v1 ..."}

The tests run for each scenario in each address family (`families`), against a real ovsdb-server. Scenarios
whose objects need addresses of the family may use `{pod_cidr}`-like fields through `prepare`.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, KubernetesOptions
from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.kinds import Kind, View
from ovnkit.api.text import Network
from ovnkit.testing import ovsdb
from ovnkit.testing.harness import ALL_ROLES, Content, Harness, difference, make_server
from ovnkit.testing.manifests import Manifest, objects, ready_node
from ovnkit.testing.ovsdb import OvsdbServer
from ovnkit.testing.tampering import FOREIGN_KEY, foreign_rows, tamper

FAMILIES = ("ipv4", "ipv6", "dual")
SEEDS = (1, 2, 3)

_V4 = ClusterSubnet(IPv4Network("10.128.0.0/14"), 23)
_V6 = ClusterSubnet(IPv6Network("fd01::/48"), 64)
_SERVICE_V4, _SERVICE_V6 = IPv4Network("172.16.1.0/24"), IPv6Network("fd02::/112")


def family_config(family: str, base: Config | None = None) -> Config:
    """A configuration with cluster and service networks of a family: ipv4, ipv6 or dual."""
    base = base or Config()
    subnets = {"ipv4": (_V4,), "ipv6": (_V6,), "dual": (_V4, _V6)}[family]
    services: dict[str, tuple[Network, ...]] = {
        "ipv4": (_SERVICE_V4,),
        "ipv6": (_SERVICE_V6,),
        "dual": (_SERVICE_V4, _SERVICE_V6),
    }
    default: DefaultOptions = attrs.evolve(base.default, cluster_subnets=subnets)
    kubernetes: KubernetesOptions = attrs.evolve(base.kubernetes, service_cidrs=services[family])
    return attrs.evolve(base, default=default, kubernetes=kubernetes)


@attrs.frozen
class Case:
    """One scenario in one family after a first run: objects with their annotations, content of the databases."""

    server: OvsdbServer
    folder: Path
    config: Config
    before: Content
    manifests: tuple[Manifest, ...]
    after: Content


@pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")
class ConformanceSuite:
    """Inherit, and set `plugin` and `scenarios`; see the module's text.

    `config` are options to start from; `scope` where the plugin runs (default: all roles on node n1);
    `nodes` are nodes that each scenario has beside its own, ready in the family that is tested
    (`manifests.ready_node`); `expected_failures` are owner paths (or their beginnings) that a scenario rejects on
    purpose.
    """

    conformance: ClassVar[bool] = True
    plugin: ClassVar[str] = ""
    scenarios: ClassVar[Mapping[str, str]] = {}
    families: ClassVar[tuple[str, ...]] = FAMILIES
    nodes: ClassVar[tuple[str, ...]] = ()
    scope: ClassVar[Scope] = ALL_ROLES
    expected_failures: ClassVar[tuple[str, ...]] = ()

    # -- what a plugin's author may override --------------------------------------------------------------

    def config(self, family: str) -> Config:
        """The configuration for a family."""
        return family_config(family)

    def prepare(self, text: str, family: str) -> str:
        """The YAML of a scenario for a family."""
        del family
        return text

    def facts(self) -> Iterable[tuple[Kind[View], View]]:
        """Host facts and answers that the plugin reads, as (kind, view)."""
        return ()

    # -- set-up -------------------------------------------------------------------------------------------

    def run(self, server: OvsdbServer, manifests: Iterable[Manifest], config: Config, **more: Any) -> Harness:
        """A harness with the plugin, not yet started."""
        return Harness(
            server, [self.plugin], manifests, config=config, scope=self.scope, facts=self.facts(), **more
        )

    def run_without(self, server: OvsdbServer, manifests: Iterable[Manifest], config: Config) -> Harness:
        """A harness with only what the plugin needs."""
        from ovnkit.api.hooks import Declaration
        from ovnkit.plugins.registry import Plugins

        declared = Plugins.discover().calls.call(self.plugin, Hooks.ovnkit_declare, config=config) or Declaration()
        return Harness(server, declared.needs, manifests, config=config, scope=self.scope, facts=self.facts())

    @pytest.fixture
    def case(self, scenario: str, family: str, tmp_path: Path) -> Iterator[Case]:
        """The scenario after a first run: without the plugin, then with it."""
        config = self.config(family)
        ready = [ready_node(name, family, number) for number, name in enumerate(self.nodes, 2)]
        manifests = [*ready, *objects(self.prepare(self.scenarios[scenario], family))]
        server = make_server(tmp_path / "first")
        try:
            foreign_rows(server)
            with self.run_without(server, manifests, config) as harness:
                before, manifests = harness.content(), harness.objects
            with self.run(server, manifests, config) as harness:
                self._no_failures(harness)
                after, manifests = harness.content(), harness.objects
            yield Case(server, tmp_path, config, before, tuple(manifests), after)
        finally:
            server.stop()

    def _no_failures(self, harness: Harness) -> None:
        unexpected = {
            owner: message
            for owner, message in harness.failures.items()
            if not owner.startswith(self.expected_failures or ("\0",))
        }
        assert not unexpected

    # -- the tests ----------------------------------------------------------------------------------------

    def test_writes_something(self, case: Case) -> None:
        """The scenario makes the plugin write: else the other tests would hold for nothing."""
        assert difference(case.before, case.after)

    def test_restart_writes_nothing(self, case: Case) -> None:
        """Restarting with nothing changed: 0 transactions, 0 writes to the API."""
        with self.run(case.server, case.manifests, case.config) as harness:
            assert not any(harness.transactions.values()), harness.transactions
            assert harness.kube.writes == 0
            assert difference(case.after, harness.content()) == []

    def test_disabled_leaves_nothing(self, case: Case) -> None:
        """Disabling the plugin removes everything it wrote, and nothing else."""
        with self.run_without(case.server, case.manifests, case.config) as harness:
            assert difference(case.before, harness.content()) == []

    def test_deleted_objects_leave_nothing(self, case: Case) -> None:
        """Deleting all objects ends where a start without them ends."""
        with self.run(case.server, case.manifests, case.config) as harness:
            harness.remove(*reversed(case.manifests))
            left = harness.content()
        fresh = make_server(case.folder / "empty")
        try:
            foreign_rows(fresh)
            with self.run(fresh, (), case.config) as harness:
                assert difference(harness.content(), left) == []
        finally:
            fresh.stop()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_order_does_not_matter(self, case: Case, seed: int) -> None:
        """Objects that come in any order end in the same content."""
        fresh = make_server(case.folder / "shuffled")
        try:
            foreign_rows(fresh)
            with self.run(fresh, case.manifests, case.config, shuffle=random.Random(seed)) as harness:
                assert difference(case.after, harness.content()) == []
                assert harness.kube.writes == 0
        finally:
            fresh.stop()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_restart_heals_a_tampered_database(self, case: Case, seed: int) -> None:
        """Rows deleted, altered or added while nobody looked are put right at the next start."""
        done = tamper(case.server, random.Random(seed))
        with self.run(case.server, case.manifests, case.config) as harness:
            assert difference(case.after, harness.content()) == [], done

    @pytest.mark.parametrize("seed", SEEDS)
    def test_heals_a_tampered_database_at_once(self, case: Case, seed: int) -> None:
        """The same while it runs."""
        with self.run(case.server, case.manifests, case.config) as harness:
            done = tamper(case.server, random.Random(seed))
            healed = harness.inbox.run_until(
                lambda: harness.reconciler.synced and not difference(case.after, harness.content()), 20.0
            )
            assert healed, (done, difference(case.after, harness.content()))

    def test_objects_that_come_late_end_the_same(self, case: Case) -> None:
        """Objects that arrive one by one in a running process end in the same content."""
        fresh = make_server(case.folder / "late")
        try:
            foreign_rows(fresh)
            with self.run(fresh, (), case.config) as harness:
                for manifest in case.manifests:
                    harness.observe(copy.deepcopy(manifest))
                assert difference(case.after, harness.content()) == []
        finally:
            fresh.stop()

    def test_foreign_rows_stay(self, case: Case) -> None:
        """Rows that somebody else wrote are never touched."""
        for rows in (case.before, case.after):
            assert any(FOREIGN_KEY in repr(row) for table in rows.values() for row in table.values())


__all__ = ["FAMILIES", "Case", "ConformanceSuite", "family_config"]
