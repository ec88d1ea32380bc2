"""Where the databases are, by the configuration: `nb`, `sb`, and `ovs` of this node."""

from __future__ import annotations

from ovnkit.api.config import Config, DatabaseOptions
from ovnkit.api.errors import ConfigError
from ovnkit.sinks.ovsdb.wire.endpoint import Tls

NAMES = {"nb": "OVN_Northbound", "sb": "OVN_Southbound", "ovs": "Open_vSwitch"}
"""Names of the schemas."""


def endpoint(config: Config, db: str) -> str:
    """Where a database is: as configured, else its unix socket on this node."""
    if db == "ovs":
        return f"unix:{config.ovspaths.ovs_run_dir}/db.sock"
    options = config.ovnnorth if db == "nb" else config.ovnsouth
    return options.address or f"unix:{config.ovspaths.ovn_run_dir}/ovn{db}_db.sock"


def tls_for(config: Config, db: str) -> Tls | None:
    """The TLS files of a database; None when it is reached without. Raises ConfigError if one is missing."""
    section = {"nb": "ovnnorth", "sb": "ovnsouth"}.get(db, "")
    options: DatabaseOptions = getattr(config, section) if section else DatabaseOptions()
    if "ssl:" not in options.address:
        return None
    for key in ("client_privkey", "client_cert", "client_cacert"):
        if not getattr(options, key):
            raise ConfigError(f"[{section}] {key.replace('_', '-')}: needed for an ssl: address")
    return Tls(options.client_privkey, options.client_cert, options.client_cacert)
