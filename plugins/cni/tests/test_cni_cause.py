"""An ADD that waited for its port in vain names the daemon of OVN that doesn't do its work."""

from __future__ import annotations

from typing import Any

import pytest

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.network.ovn_daemons import NORTHD, OVN_DAEMONS, OvnDaemon, controller
from ovnkit_cni.commands import Commands

SILENT = "northd doesn't answer: nb_cfg 41, sb_cfg 37 for 30 s"
DOWN = "ovn-controller isn't running for 10 s"


class Runtime:
    config = Config()
    scope = Scope(frozenset({Role.NODE}), "n1", "n1", True)

    def __init__(self, *daemons: OvnDaemon) -> None:
        self.daemons = {daemon.key: daemon for daemon in daemons}

    def get(self, kind: Any, key: str) -> Any:
        assert kind is OVN_DAEMONS
        return self.daemons.get(key)


@pytest.mark.parametrize(
    ("daemons", "cause"),
    [
        ([OvnDaemon(NORTHD, SILENT), OvnDaemon(controller("n1"))], SILENT),
        ([OvnDaemon(NORTHD), OvnDaemon(controller("n1"), DOWN), OvnDaemon(controller("n2"), "not ours")], DOWN),
        ([OvnDaemon(NORTHD, SILENT), OvnDaemon(controller("n1"), DOWN)], f"{SILENT}; {DOWN}"),
    ],
)
def test_the_daemon_at_fault_is_named(daemons: list[OvnDaemon], cause: str) -> None:
    runtime: Any = Runtime(*daemons)
    assert Commands(runtime)._why_not_installed("shop_web") == cause


@pytest.mark.parametrize("daemons", [[], [OvnDaemon(controller("n1"))]])
def test_where_all_seem_well_it_says_what_the_port_waits_for(daemons: list[OvnDaemon]) -> None:
    runtime: Any = Runtime(*daemons)
    cause = Commands(runtime)._why_not_installed("shop_web")
    assert "has not been told of logical switch port shop_web" in cause
    assert "northd" in cause
