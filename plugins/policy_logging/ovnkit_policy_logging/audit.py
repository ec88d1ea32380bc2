"""Role node: brings the ACL log lines of this node's ovn-controller to where the configuration wants them.

ovn-controller takes its syslog method on its command line only, and loses a socket that is made anew. So its own
log is followed instead: that needs nothing of how it is started, and while a destination is away, lines wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog

from ovnkit.api.config import Config
from ovnkit.api.log_follower import Follower
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit_policy_logging.destination import FACILITIES, AuditFile, AuditSyslog, Destination, Writer
from ovnkit_policy_logging.lines import audit_line
from ovnkit_policy_logging.options import PolicyLoggingOptions
from ovnkit_policy_logging.verbosity import NOWHERE, TO_FILE, Verbosity

log = structlog.get_logger()

PERIOD = 0.5
"""Seconds between looks at the log; a look that finds nothing costs some microseconds."""

SOURCE = "ovn-controller.log"
FILE = "acl-audit-log.log"
STATE = ".acl-audit-log.position"
"""Names in OVN's log directory."""

MEGABYTE = 1_000_000


class AuditLog:
    """One thread, started and stopped with the process. `problem` says what is wrong, empty when nothing is."""

    def __init__(self, config: Config, node: str) -> None:
        self._options = config.options("policy_logging", PolicyLoggingOptions)
        self._destination = Destination.parse(self._options.destination)
        self._directory = Path(config.ovspaths.ovn_log_dir)
        self._node = node
        quiet = self._destination.kind == "null"
        self._verbosity = Verbosity(Path(config.ovspaths.ovn_run_dir), NOWHERE if quiet else TO_FILE)
        self._source = self._directory / SOURCE
        self._follower = None if quiet else Follower(self._source, self._directory / STATE)
        self._writer: Writer | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="acl-audit", daemon=True)
        self._passed_on: Counter[tuple[str, str]] = Counter()
        self.problem = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once it has passed on what there is; it gets 2 s for it."""
        self._stopped.set()
        self._thread.join(2.0)

    def metrics(self) -> Iterable[Metric]:
        """How many lines have been passed on, and whether any wait; from any thread."""
        passed_on = tuple(
            Sample(number, {"verdict": verdict, "severity": severity})
            for (verdict, severity), number in self._passed_on.copy().items()
        )
        yield Metric("lines", "ACL log lines that were passed on.", MetricKind.COUNTER, passed_on)
        waiting = Sample(1 if self.problem else 0)
        yield Metric("waiting", "1 while ACL log lines wait for their destination.", MetricKind.GAUGE, (waiting,))

    def look(self) -> None:
        """Tell ovn-controller what it must know, and pass on the lines that are there; nothing is raised."""
        try:
            if self._verbosity.apply() and self._follower is not None and not self._source.exists():
                log.warning("ovn-controller writes no log: no ACL log lines", expected=str(self._source))
        except OSError as error:
            log.debug("ovn-controller isn't told about its ACL log", error=str(error))
        try:
            self._pass_on()
        except OSError as error:
            self._note(f"{self._options.destination}: {error.strerror or error}")
        else:
            self._note("")

    def _work(self) -> None:
        while not self._stopped.wait(PERIOD):
            self.look()
        self.look()

    def _pass_on(self) -> None:
        if self._follower is None:
            return
        try:
            for text in self._follower.lines():
                line = audit_line(text)
                if line is not None:
                    self._open().write(line)
                    self._passed_on[line.verdict, line.severity] += 1
        finally:
            self._follower.save()

    def _open(self) -> Writer:
        if self._writer is None:
            options, wanted = self._options, self._destination
            if wanted.kind == "file":
                path = self._directory / FILE
                self._writer = AuditFile(path, options.max_file_size * MEGABYTE, options.max_log_files)
            else:
                address = wanted.path or (wanted.host, wanted.port)
                self._writer = AuditSyslog(address, FACILITIES[options.syslog_facility], self._node)
        return self._writer

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("ACL log lines wait", reason=problem)
        elif self.problem and not problem:
            log.info("ACL log lines are passed on again")
        self.problem = problem
