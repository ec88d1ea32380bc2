"""The log lines of ovn-controller that tell of packets which met a logged ACL (OVN, lib/acl-log.c)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from attrs import frozen

from ovnkit.network.acl_logging import SEVERITIES

_LINE = re.compile(r"(?P<time>[^|]*)\|(?P<body>\d+\|acl_log(?:\(\w+\))?\|[A-Z]+\|.*)", re.ASCII)
_SEVERITY = re.compile(rf", severity=({'|'.join(SEVERITIES)})\b")
_VERDICT = re.compile(r", verdict=([a-z]+)\b", re.ASCII)


@frozen
class AuditLine:
    """One line: `text` whole, `body` without the time: `<number>|acl_log(<thread>)|INFO|name=..., verdict=...`."""

    text: str
    time: str
    body: str

    @property
    def severity(self) -> str:
        """Severity of the ACL; OVN's own default when the line has none."""
        found = _SEVERITY.search(self.body)
        return found[1] if found is not None else "info"

    @property
    def verdict(self) -> str:
        """What became of the packet: `allow`, `drop` and others of OVN; empty when the line has none."""
        found = _VERDICT.search(self.body)
        return found[1] if found is not None else ""

    @property
    def syslog_time(self) -> str:
        """When the packet came, as RFC 3164 has it: local time, to the second."""
        try:
            when = datetime.fromisoformat(self.time)
        except ValueError:
            when = datetime.now(UTC)
        return f"{when.astimezone():%b %e %H:%M:%S}"


def audit_line(text: str) -> AuditLine | None:
    """The line as one of the ACL log; None for ovn-controller's other messages."""
    found = _LINE.fullmatch(text)
    return AuditLine(text, found["time"], found["body"]) if found is not None else None
