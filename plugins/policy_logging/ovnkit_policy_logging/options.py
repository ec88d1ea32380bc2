"""Section `[policy_logging]` of the configuration."""

from __future__ import annotations

from attrs import Attribute, field, frozen
from attrs.validators import ge, in_

from ovnkit_policy_logging.destination import FACILITIES, Destination


def _destination(_instance: object, attribute: Attribute[str], value: str) -> None:
    try:
        Destination.parse(value)
    except ValueError as error:
        raise ValueError(f"'{attribute.name}' {error}") from None


@frozen
class PolicyLoggingOptions:
    """How ACL log lines are limited, and where they go.

    `acl_logging_rate_limit` lines per second, of each ACL or of all ACLs of a node together (`rate_limit_per`);
    `destination` is `file`, `libc`, `unix:PATH`, `udp:HOST:PORT` or `null`; `syslog_facility` goes with syslog;
    `max_file_size` (megabytes of 1,000,000 bytes) and `max_log_files` with `file`. Defaults are those of
    policyAuditConfig.
    """

    acl_logging_rate_limit: int = field(default=20, validator=ge(1))
    rate_limit_per: str = field(default="acl", validator=in_(("acl", "node")))
    destination: str = field(default="file", validator=_destination)
    syslog_facility: str = field(default="local0", validator=in_(tuple(FACILITIES)))
    max_file_size: int = field(default=50, validator=ge(1))
    max_log_files: int = field(default=5, validator=ge(1))
