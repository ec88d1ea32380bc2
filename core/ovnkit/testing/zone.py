"""A zone for tests: real databases and northd, which judge what a plugin wrote."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from ovnkit.testing.daemons import Daemon, northd, ovsdb_server
from ovnkit.testing.installs import OvnInstall, locate
from ovnkit.testing.ovsdb import DEBIAN_13

Release = Literal["host", "new"]
RELEASES: tuple[Release, ...] = ("host", "new")
"""The machine's own OVN, and the newer one in the cache."""


class Zone:
    """Northbound, southbound and a northd that has looked at them once.

    `endpoints` are the databases by `nb` and `sb`; `log` is northd's.
    """

    def __init__(self, folder: Path, install: OvnInstall) -> None:
        self.install = install
        self.endpoints = {db: f"unix:{folder}/{db}.sock" for db in ("nb", "sb")}
        self.log = folder / "ovn-northd.log"
        self._daemons: list[Daemon] = [
            ovsdb_server(
                install,
                folder,
                {db: folder / f"{db}.db"},
                name=f"ovsdb-{db}",
                remotes=[f"punix:{folder}/{db}.sock"],
                log_dir=folder,
            )
            for db in self.endpoints
        ]
        nb, sb = self.endpoints["nb"], self.endpoints["sb"]
        self._daemons.append(northd(install, folder, nb=nb, sb=sb, log_dir=folder))
        for daemon in self._daemons:
            daemon.start()
        self.sync()

    def nb(self, *words: str) -> str:
        """What ovn-nbctl prints."""
        return self._tool("ovn-nbctl", "nb", *words)

    def sb(self, *words: str) -> str:
        """What ovn-sbctl prints, once northd has caught up."""
        self.sync()
        return self._tool("ovn-sbctl", "sb", *words)

    def trace(self, switch: str, flow: str, *options: str) -> str:
        """What ovn-trace says in short of a packet, once northd has caught up."""
        self.sync()
        return self._tool("ovn-trace", "sb", *options, "--summary", switch, flow)

    def sync(self) -> None:
        """Return when northd has brought the northbound to the southbound."""
        self.nb("--wait=sb", "--timeout=20", "sync")

    def _tool(self, tool: str, db: str, *words: str) -> str:
        return self.install.run(tool, f"--db={self.endpoints[db]}", *words)

    def stop(self) -> None:
        """End the daemons."""
        for daemon in reversed(self._daemons):
            daemon.stop()


Z = TypeVar("Z", bound=Zone)


@contextmanager
def zone_of(release: Release, make: Callable[[Path, OvnInstall], Z]) -> Iterator[Z]:
    """A zone of that release, `Zone` or a class derived from it; skips the test where there is no such OVN."""
    if release == "host" and shutil.which("ovn-northd") is None:
        pytest.skip("no OVN on this machine")
    if release == "new" and not (DEBIAN_13 / "usr/bin/ovn-northd").exists():
        pytest.skip("no newer OVN cached")
    folder = Path(tempfile.mkdtemp(prefix="ovnkit-zone-"))
    try:
        zone = make(folder, locate("host" if release == "host" else str(DEBIAN_13)))
        try:
            yield zone
        finally:
            zone.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
