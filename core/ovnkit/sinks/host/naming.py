"""Host items in words, as the command `ip` prints them: for errors, which the kernel gives as bare numbers."""

from __future__ import annotations

from ovnkit.api.errors import OvnkitError
from ovnkit.api.host import HostItem, Link, LinkAddress, Neighbour, Route, Rule

MAIN_TABLE = 254


class HostItemError(OvnkitError):
    """An item could not be applied to the kernel; the text names the item and its link."""


def name_of(item: HostItem) -> str:
    """An item in words: `route 10.96.0.0/16 via 169.254.169.4 dev br-ex`."""
    if isinstance(item, Link):
        more = f" address {item.mac}" if item.mac else ""
        return f"link {item.name}{more}" + (f" mtu {item.mtu}" if item.mtu else "")
    if isinstance(item, LinkAddress):
        return f"address {item.address} dev {item.link}"
    if isinstance(item, Route):
        return route_name(item.destination, item.link, item.via, item.source, item.table)
    if isinstance(item, Rule):
        mark = f" fwmark {item.fwmark:#x}" if item.fwmark else ""
        return f"IPv{item.family} rule {item.priority}{mark} lookup {item.table}"
    if isinstance(item, Neighbour):
        return f"neighbour {item.address} lladdr {item.mac} dev {item.link}"
    return f"sysctl {'.'.join(item.path)} = {item.value}"


def route_name(
    destination: object, link: str, via: object = None, source: object = None, table: int = MAIN_TABLE
) -> str:
    """A route in words."""
    words = [f"route {destination}"]
    if via is not None:
        words.append(f"via {via}")
    words.append(f"dev {link}")
    if source is not None:
        words.append(f"src {source}")
    if table != MAIN_TABLE:
        words.append(f"table {table}")
    return " ".join(words)


def kernel_error(error: Exception) -> str:
    """An error of netlink or a file in words: `Invalid argument`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code, *rest = error.args or ("",)
    return str(rest[0]) if isinstance(code, int) and rest and rest[0] else str(error)
