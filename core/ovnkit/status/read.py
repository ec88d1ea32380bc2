"""Reading the status of running processes from their sockets, for `ovnkit status` and `ovnkit plugins`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ovnkit.api.config import Config
from ovnkit.api.text import parse_json
from ovnkit.plugins.registry import Plugins, PluginState
from ovnkit.status.unixhttp import read

SOCKET_PREFIX = "ovnkit-"


def socket_path(config: Config, roles: Iterable[str]) -> Path:
    """Where a process with these roles serves its status: `ovnkit-<roles>.sock` in OVN's run directory."""
    configured = config.metrics.socket
    return Path(configured or Path(config.ovspaths.ovn_run_dir) / f"{SOCKET_PREFIX}{'-'.join(sorted(roles))}.sock")


def fetch(path: Path, what: str = "/status", timeout: float = 3.0) -> Any:
    """The decoded JSON answer of a process' socket; raises OSError or ValueError when nobody answers well."""
    return parse_json(read(path, what, timeout))


def find_running(config: Config, path: str | None = None) -> list[dict[str, Any]]:
    """The status of the processes on this machine; `path` names one socket, which must answer."""
    if path is not None:
        return [fetch(Path(path))]
    found = []
    candidates = {Path(config.metrics.socket)} if config.metrics.socket else set()
    run_dir = Path(config.ovspaths.ovn_run_dir)
    if run_dir.is_dir():
        candidates |= set(run_dir.glob(f"{SOCKET_PREFIX}*.sock"))
    for candidate in sorted(candidates):
        try:
            found.append(fetch(candidate))
        except (OSError, ValueError):
            continue
    return found


def plugin_row(plugin: Any) -> dict[str, Any]:
    """One plugin as shown by `ovnkit plugins` and /status."""
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": plugin.state.value,
        "why": plugin.why,
        "needs": list(plugin.declaration.needs),
        "after": list(plugin.declaration.after),
        "summary": plugin.summary,
    }


def plugin_rows(plugins: Plugins, running: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """All plugins; `live` says that the state is a running process', the worst where several differ."""
    rows = {plugin.name: plugin_row(plugin) | {"live": False} for plugin in plugins.all.values()}
    severity = [
        PluginState.ENABLED,
        PluginState.DISABLED,
        PluginState.MISSING,
        PluginState.QUARANTINED,
        PluginState.FAILED,
    ]
    rank = {state.value: place for place, state in enumerate(severity)}
    for status in running:
        for seen in status.get("plugins", ()):
            row = rows.setdefault(seen["name"], dict(seen) | {"live": True})
            if not row["live"] or rank.get(seen["state"], 0) > rank.get(row["state"], 0):
                row |= {"state": seen["state"], "why": seen["why"], "live": True}
            row["health"] = {**row.get("health", {}), **seen.get("health", {})}
    return sorted(rows.values(), key=lambda row: str(row["name"]))
