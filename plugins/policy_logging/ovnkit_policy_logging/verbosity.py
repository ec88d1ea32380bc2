"""Tells ovn-controller, through its control socket, where its ACL log may go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog
from ovs.unixctl.client import UnixctlClient

log = structlog.get_logger()

TO_FILE = ("acl_log:file:info", "acl_log:syslog:off")
"""Into ovn-controller's log, whatever its own level is; to syslog only by way of us."""

NOWHERE = ("acl_log:off",)

PROGRAM = "ovn-controller"


class Verbosity:
    """Keeps the levels of the module `acl_log`; each new ovn-controller is told once."""

    def __init__(self, run_dir: Path, levels: Sequence[str]) -> None:
        self._pid_file = run_dir / f"{PROGRAM}.pid"
        self._levels = list(levels)
        self._told: tuple[str, int] | None = None

    def apply(self) -> bool:
        """Tell the ovn-controller that runs, unless that was done; whether it was told now.

        Raises OSError while none runs, or when it refuses.
        """
        # A process of a container may get the number of the one before it: the file's time tells them apart.
        found = self._pid_file.read_text().strip(), self._pid_file.stat().st_mtime_ns
        if found == self._told:
            return False
        self._call(str(self._pid_file.with_name(f"{PROGRAM}.{found[0]}.ctl")))
        self._told = found
        log.info("ACL log of ovn-controller is set", levels=self._levels, pid=found[0])
        return True

    def _call(self, path: str) -> None:
        error, client = UnixctlClient.create(path)
        if error:
            raise OSError(error, "ovn-controller can't be reached", path)
        try:
            error, refused, _ = client.transact("vlog/set", self._levels)
        finally:
            client.close()
        if error or refused:
            raise OSError(max(error, 0), f"ovn-controller refuses: {refused or error}", path)
