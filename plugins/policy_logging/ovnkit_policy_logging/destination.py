"""Where audit lines go, and the handlers of the standard library that bring them there.

The handlers raise what goes wrong (OSError) instead of printing it: who writes keeps the line and tries again.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from io import TextIOWrapper
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler, SysLogHandler
from pathlib import Path

from attrs import frozen

from ovnkit.api.text import parse_port
from ovnkit_policy_logging.lines import AuditLine

FACILITIES = {
    name: number
    for number, name in enumerate(
        ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "clock", "cron",
         "ftp", "ntp", "audit", "alert", "clock2", *(f"local{number}" for number in range(8)))
    )
    if name != "cron"
}  # fmt: skip
"""Syslog facilities by the names that Open vSwitch has for them (lib/vlog.c; it has none for number 10)."""

LIBC = "/dev/log"
"""The socket that libc's syslog() writes to."""

FILE_MODE = 0o640


@frozen
class Destination:
    """Where lines go: `kind` is `null`, `file`, `unix` (datagrams to the socket `path`) or `udp`."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Destination:
        """The destination as the configuration writes it; raises ValueError."""
        kind, _, rest = text.partition(":")
        if text in ("null", "file"):
            return cls(text)
        if text == "libc":
            return cls("unix", path=LIBC)
        if kind == "unix" and rest.startswith("/"):
            return cls("unix", path=rest)
        if kind == "udp":
            host, _, port = rest.rpartition(":")
            host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
            with suppress(ValueError):
                if host:
                    return cls("udp", host=host, port=parse_port(port))
        raise ValueError(f"must be file, libc, null, unix:/PATH or udp:HOST:PORT, not {text!r}")


class AuditFile(RotatingFileHandler):
    """Lines as ovn-controller writes them, in at most `files` files of at most `size` bytes."""

    def __init__(self, path: Path, size: int, files: int) -> None:
        super().__init__(path, maxBytes=size, backupCount=files - 1, delay=True, encoding="utf-8")

    def write(self, line: AuditLine) -> None:
        """Append a line; raises OSError."""
        if self.stream is not None and not os.path.exists(self.baseFilename):
            self.close()  # somebody removed it: the next line makes it anew
        try:
            self.emit(makeLogRecord({"msg": line.text}))
        except OSError:
            # What could not be written is still in the stream's buffer, and would come twice.
            if self.stream is not None:
                with suppress(OSError):
                    self.stream.close()
            self.stream = None
            raise

    def doRollover(self) -> None:  # noqa: N802 (the standard library's name)
        """The base class would go on appending when there is only one file."""
        if self.backupCount:
            super().doRollover()
        elif self.stream is not None:
            self.stream.truncate(0)

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, FILE_MODE)

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)

    def handleError(self, record: LogRecord) -> None:  # noqa: ARG002, N802 (the standard library's name)
        """Let whoever writes know."""
        raise


class AuditSyslog(SysLogHandler):
    """Datagrams as RFC 3164 has them. The line's severity is the message's; `host` names the sender."""

    append_nul = False

    def __init__(self, address: str | tuple[str, int], facility: int, host: str) -> None:
        super().__init__(address, facility, socket.SOCK_DGRAM)
        self._host = host

    def write(self, line: AuditLine) -> None:
        """Send a line; raises OSError."""
        text = f"{line.syslog_time} {self._host} ovn-controller: ovs|{line.body}"
        self.emit(makeLogRecord({"msg": text, "levelname": line.severity}))

    def mapPriority(self, levelName: str) -> str:  # noqa: N802, N803 (the standard library's names)
        """OVN's severities have syslog's names."""
        return levelName

    def handleError(self, record: LogRecord) -> None:  # noqa: ARG002, N802 (the standard library's name)
        """Let whoever writes know."""
        raise


Writer = AuditFile | AuditSyslog
