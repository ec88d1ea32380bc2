"""What ovn-controller says in its log about our matches: the flows of such a match are missing.

Matches are checked before they are written (`ovnkit.api.matches.syntax`). This finds what the check can't: symbols
this OVN doesn't have, or a set whose content doesn't fit where the match uses it.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from ovnkit.api.log_follower import Follower
from ovnkit.engine.sink import Owner, Report
from ovnkit.sinks.ovsdb.wire.errors import MatchRefused

log = structlog.get_logger()

PERIOD = 1.0
"""Seconds between looks at the log. ovn-controller itself limits such lines to one a second."""
DAEMON = "ovn-controller"
_LINE = re.compile(r'\|WARN\|error parsing match "(?P<match>.*)"(?:: (?P<reason>.*))?$')
_SET_MISSING = re.compile(r"expecting (address set|port group) name")


class Complaints:
    """One thread that follows ovn-controller's log; what it finds is told in the reconciler's thread by `post`.

    `owners` finds who wants a match that is all or a part of a text.
    """

    def __init__(
        self,
        directory: Path,
        *,
        post: Callable[[Callable[[], None]], None],
        owners: Callable[[str], Collection[Owner]],
        report: Report,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Complaints so far, by daemon."""
        self._follower = Follower(directory / f"{DAEMON}.log")
        self._post, self._owners, self._report = post, owners, report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="complaints", daemon=True)

    def start(self) -> None:
        """Start the thread; what is in the log already is old."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._follower.close()

    def look(self) -> None:
        """Read what is new; nothing is raised."""
        try:
            for line in self._follower.lines():
                found = _LINE.search(line)
                if found is not None:
                    match, reason = found["match"], found["reason"] or "no reason given"
                    self._post(lambda match=match, reason=reason: self._tell(match, reason))  # type: ignore[misc]
        except OSError as error:
            log.debug("the log can't be read", daemon=DAEMON, error=str(error))

    def _work(self) -> None:
        while not self._stopped.wait(PERIOD):
            self.look()

    def _tell(self, match: str, reason: str) -> None:
        self.counts[DAEMON] += 1
        log.warning("a match was refused", daemon=DAEMON, match=match, reason=reason)
        if _SET_MISSING.search(reason):
            return  # somebody deleted the set; it is written anew, and the match with it
        for owner in self._owners(match):
            self._report(owner, MatchRefused(f"{DAEMON} can't use the match {match!r}: {reason}"))
