"""Connections to the API server when the host loses the address from which they were made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Any

import pytest
from pyroute2 import IPRoute

from ovnkit.api.hooks import Scope
from ovnkit.api.host import ADDRESSES, LinkAddress
from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.process.watches import Watches
from ovnkit.sinks.host import apply
from ovnkit.sinks.host.link_config import link_index


class Client:
    """Counts how often it is to connect anew."""

    renewed = 0

    def renew(self) -> None:
        self.renewed += 1


@pytest.fixture
def watched(veth: None) -> Iterator[tuple[Client, Reconciler]]:
    client, reconciler = Client(), Reconciler(Inbox())
    watches = Watches(reconciler, Scope(frozenset({Role.NODE}), "n1", "n1", True))
    fake: Any = client
    watches.start(fake, [ADDRESSES], ())
    yield client, reconciler
    watches.stop()


def test_a_lost_address_renews_them_and_one_of_ovnkits_does_not(watched: tuple[Client, Reconciler]) -> None:
    client, reconciler = watched

    def wait(condition: Any) -> None:
        assert reconciler.inbox.run_until(condition, 20)

    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "va"], check=True)
    with IPRoute() as ip:
        own = LinkAddress("va", ip_interface("192.0.2.2/24"))
        apply.apply(ip, own, link_index(ip, "va") or 0)
        wait(lambda: reconciler.get(ADDRESSES, "va/192.0.2.1/24") and reconciler.get(ADDRESSES, "va/192.0.2.2/24"))
        apply.remove(ip, own, link_index(ip, "va") or 0)
    wait(lambda: reconciler.get(ADDRESSES, "va/192.0.2.2/24") is None)
    assert client.renewed == 0
    subprocess.run(["ip", "address", "del", "192.0.2.1/24", "dev", "va"], check=True)
    wait(lambda: client.renewed == 1)
