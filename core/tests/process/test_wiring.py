"""The wiring: every sink is in it, and each role has the sinks that it needs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from ovnkit.api.config import Config
from ovnkit.api.renderers import Role
from ovnkit.engine.sink import Sink
from ovnkit.plugins.registry import Plugins
from ovnkit.process.node_sinks import NODE_SINKS
from ovnkit.process.wiring import Wiring
from ovnkit.sinks import host
from ovnkit.testing.bench import scope
from ovnkit.testing.doubles import DoubleEdges

NODE = ["ovs", "host", "flows", "nft", "uplinks", "http", "conntrack"]


def test_every_sink_of_the_host_is_wired() -> None:
    found: set[type] = set()
    for module in pkgutil.iter_modules(host.__path__):
        members = vars(importlib.import_module(f"{host.__name__}.{module.name}")).values()
        found |= {item for item in members if inspect.isclass(item) and Sink in item.__mro__}
    assert found - {Sink} == set(NODE_SINKS)


@pytest.mark.parametrize(
    ("roles", "names"),
    [
        ([Role.CLUSTER], ["kube", "answers"]),
        ([Role.ZONE], ["kube", "answers", "nb"]),
        ([Role.NODE], ["kube", "answers", *NODE]),
        (list(Role), ["kube", "answers", "nb", *NODE]),
    ],
)
def test_a_process_has_the_sinks_of_its_roles(roles: list[Role], names: list[str]) -> None:
    wiring = Wiring(Config(), scope(*roles, node="n1"), Plugins({}), DoubleEdges())
    assert [sink.name for sink in wiring.sinks] == names
    assert not wiring.rendering
    wiring.databases.start()
    assert wiring.inbox.run_until(lambda: wiring.rendering, 5), "without a real database nothing is waited for"
    wiring.activate(wiring.scope.roles)
    assert wiring.reconciler.rendered
