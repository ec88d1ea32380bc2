"""Host facts that follow events: as a full look would tell them, and without one where none is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ovnkit.api.host import ADDRESSES, LINKS, ROUTES
from ovnkit.sinks.host.facts import HostFactsWatcher, read_once
from ovnkit.sinks.host.netlink import Monitor

KINDS = (LINKS, ADDRESSES, ROUTES)


class Facts:
    """What the watcher has told, by kind."""

    def __init__(self) -> None:
        self.listed = threading.Semaphore(0)
        self.views: dict[str, dict[str, Any]] = {kind.name: {} for kind in KINDS}

    def changed(self, kind: Any, changes: Any) -> None:
        views = self.views[kind.name]
        for key, view in changes:
            if view is None:
                views.pop(key, None)
            else:
                views[key] = view

    def of(self, kind: Any) -> dict[str, Any]:
        return dict(self.views[kind.name])


@pytest.fixture
def facts(veth: None) -> Iterator[Facts]:
    found = Facts()
    watcher = HostFactsWatcher(KINDS, found.changed, lambda _kind: found.listed.release())
    watcher.start()
    for _ in KINDS:
        assert found.listed.acquire(timeout=20)
    yield found
    watcher.stop()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was looked at as a whole, one entry for each look."""
    made: list[tuple[str, ...]] = []
    look = Monitor._look

    def counted(self: Monitor, ip: Any, whats: tuple[str, ...]) -> None:
        made.append(whats)
        look(self, ip, whats)

    monkeypatch.setattr(Monitor, "_look", counted)
    return made


def test_events_of_links_say_what_a_look_says(
    facts: Facts, ip: Callable[..., str], until: Callable[[Callable[[], object]], None]
) -> None:
    ip("link", "add", "bridge", "type", "bridge")
    ip("link", "set", "va", "master", "bridge", "up")
    ip("link", "set", "vb", "mtu", "1400", "alias", "a name", "address", "0a:58:0a:80:01:05")
    ip("tuntap", "add", "passing", "mode", "tap")
    ip("link", "set", "passing", "name", "lasting")
    ip("link", "add", "gone", "type", "bridge")
    ip("link", "del", "gone")
    until(lambda: "lasting" in facts.of(LINKS) and "gone" not in facts.of(LINKS))
    until(lambda: facts.of(LINKS) == {view.key: view for view in read_once(LINKS)})
    assert {"va", "vb", "bridge", "lasting"} <= facts.of(LINKS).keys()
    assert facts.of(LINKS)["va"].master == "bridge"
    assert facts.of(LINKS)["vb"].mtu == 1400


@pytest.mark.parametrize("change", ["link set va down", "address del 192.0.2.1/24 dev va"])
def test_routes_that_go_without_an_event_are_missed_at_once(
    facts: Facts, ip: Callable[..., str], until: Callable[[Callable[[], object]], None], change: str
) -> None:
    ip("link", "set", "va", "up")
    ip("address", "add", "192.0.2.1/24", "dev", "va")
    ip("address", "add", "2001:db8::1/64", "dev", "va", "nodad")
    ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9")
    until(lambda: "254/198.51.100.0/24/0" in facts.of(ROUTES))
    ip(*change.split())
    until(lambda: "254/198.51.100.0/24/0" not in facts.of(ROUTES))
    for kind in (ADDRESSES, ROUTES):
        until(lambda kind=kind: facts.of(kind) == {view.key: view for view in read_once(kind)})  # type: ignore[misc]


def test_a_pod_that_comes_and_goes_costs_no_look(
    facts: Facts,
    looks: list[tuple[str, ...]],
    ip: Callable[..., str],
    until: Callable[[Callable[[], object]], None],
) -> None:
    ip("link", "add", "pod", "type", "veth", "peer", "name", "eth0")
    ip("link", "set", "pod", "up")
    ip("link", "set", "eth0", "up")
    until(lambda: any(address.link == "pod" for address in facts.of(ADDRESSES).values()))
    ip("link", "del", "pod")
    until(lambda: not any("pod" in key for kind in KINDS for key in facts.of(kind)))
    # An address that has a route goes next: the look for it is the first one.
    ip("link", "set", "va", "up")
    ip("address", "add", "192.0.2.1/24", "dev", "va")
    ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9")
    until(lambda: "254/198.51.100.0/24/0" in facts.of(ROUTES))
    ip("link", "set", "va", "down")
    until(lambda: "254/198.51.100.0/24/0" not in facts.of(ROUTES))
    assert looks == [("addresses", "routes")]


def test_an_ipv4_mapped_address_of_the_host_is_not_told(
    facts: Facts, ip: Callable[..., str], until: Callable[[Callable[[], object]], None]
) -> None:
    """It would spoil the annotation with all addresses of the node. As a route's destination it is harmless."""
    ip("addr", "add", "::ffff:192.0.2.9/96", "dev", "va", "nodad")
    ip("addr", "add", "2001:db8::9/64", "dev", "va", "nodad")
    ip("link", "set", "va", "up")
    ip("-6", "route", "add", "::ffff:198.51.100.0/120", "dev", "va")
    until(lambda: "va/2001:db8::9/64" in facts.of(ADDRESSES))
    until(lambda: any("ffff" in str(route.destination) for route in facts.of(ROUTES).values()))
    assert not [key for key in facts.of(ADDRESSES) if "ffff" in key and "fe80" not in key]
