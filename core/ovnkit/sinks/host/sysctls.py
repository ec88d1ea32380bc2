"""Sysctls written so that the host loses nothing by it."""

from __future__ import annotations

import re
from pathlib import Path

from ovnkit.api.host import Sysctl

_ROOT = Path("/proc/sys")
_PART = re.compile(r"[A-Za-z0-9_.@:-]+")
_IPV6_LINKS = ("net", "ipv6", "conf")
_ROUTES = Path("/proc/thread-self/net/ipv6_route")
_ADVERTISED = 0x00010000 | 0x00040000
"""RTF_DEFAULT and RTF_ADDRCONF of linux/ipv6_route.h."""


def sysctl_file(item: Sysctl) -> Path:
    """The file of a sysctl; raises ValueError when a part could lead elsewhere."""
    for part in item.path:
        if not _PART.fullmatch(part) or part in (".", ".."):
            raise ValueError(f"sysctl {'/'.join(item.path)}: {part!r} is no part of a name")
    return _ROOT.joinpath(*item.path)


class Sysctls:
    """Writes sysctls and gives back what was there before.

    A link with `accept_ra` 1 hears router advertisements only as long as it doesn't forward, and the kernel drops
    the default routes that it has learned when forwarding begins. So links with such a route get 2 (hear them all
    the same) before forwarding is switched on, whoever wants that, and 1 again when it is switched off. Others
    stay as they are: a link to pods must not begin to believe them.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], str] = {}
        self._hearing: dict[tuple[str, ...], set[str]] = {}

    def write(self, item: Sysctl) -> None:
        """Write a sysctl unless it has the value. Raises OSError, ValueError."""
        file = sysctl_file(item)
        before = file.read_text().strip()
        if before.split() == item.value.split() or (item.only_from and before != item.only_from):
            return
        if item.path[:3] == _IPV6_LINKS and item.path[-1] == "forwarding" and before == "0":
            self._hearing.setdefault(item.path, set()).update(_keep_hearing(item.path[3]))
        file.write_text(item.value)
        self._before.setdefault(item.path, before)

    def restore(self, item: Sysctl) -> None:
        """Nobody wants a sysctl any more: write what was there before, if we changed it and it still exists."""
        before = self._before.pop(item.path, None)
        file = sysctl_file(item)
        if before is None or not file.exists():
            return
        file.write_text(before)
        for link in self._hearing.pop(item.path, ()):
            accept = _accept_ra(link)
            if accept.exists() and accept.read_text().strip() == "2":
                accept.write_text("1")


def _keep_hearing(scope: str) -> set[str]:
    """Of a link, or `all`: those that were told to go on hearing router advertisements."""
    kept = set()
    for link in _learned_default() if scope == "all" else _learned_default() & {scope}:
        try:
            accept = _accept_ra(link)
            if accept.read_text().strip() == "1":
                accept.write_text("2")
                kept.add(link)
        except FileNotFoundError:  # the link went meanwhile
            continue
    return kept


def _learned_default() -> set[str]:
    """Links with a default route that a router has advertised."""
    found = set()
    for line in _ROUTES.read_text().splitlines():
        destination, length, *_, flags, link = line.split()
        learned = int(flags, 16) & _ADVERTISED == _ADVERTISED
        if learned and int(destination, 16) == 0 and length == "00":
            found.add(link)
    return found


def _accept_ra(link: str) -> Path:
    return _ROOT.joinpath(*_IPV6_LINKS, link, "accept_ra")
