"""The examples that `ovnkit lab demo` applies: manifests, what they promise, and the configuration they need.

An example is a folder of `examples/`. It has manifests (`*.yaml`), a README, in `expect.toml` what must be so once
the manifests are applied, and in `ovnkit.toml` the configuration of the lab, if it needs one. `expect.toml`:

    [[reach]]                      # one try for each address of the target
    from = "shop/client"           # a pod; or a host of the lab: node1, external
    to = "service shop/web"        # a pod, a host, or a Service by its cluster addresses
    port = 80                      # none with protocol icmp
    protocol = "tcp"               # tcp (the default), udp or icmp
    reaches = false                # true by default

    [[show]]                       # after the connections have been tried
    on = "node1"                   # a pod or a host
    command = ["ovn-nbctl", "lr-nat-list", "GR_node1"]
    matches = "snat"               # a regular expression for a line that it prints

Nodes are node1 and node2.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen
from attrs.validators import in_

from ovnkit.api.errors import did_you_mean
from ovnkit_lab.layout import LabError

ALL = Path(__file__).with_name("examples")
DEFAULT = "pods"
"""The example without promises: it shows all connections between its pods and the nodes."""


@frozen
class Reach:
    """A connection that must come about, or must not."""

    source: str
    target: str
    port: int = 0
    protocol: str = field(default="tcp", validator=in_(("tcp", "udp", "icmp")))
    reaches: bool = True


@frozen
class Show:
    """A command and a pattern that a line of its output must match."""

    on: str
    command: tuple[str, ...] = field(converter=tuple)
    matches: re.Pattern[str] = field(converter=re.compile)


@frozen
class Example:
    """An example that has been read."""

    folder: Path
    reach: tuple[Reach, ...] = ()
    show: tuple[Show, ...] = ()

    @property
    def config(self) -> str:
        """Path of the configuration for the lab; empty when it needs none."""
        path = self.folder / "ovnkit.toml"
        return str(path) if path.exists() else ""


def names() -> list[str]:
    """The examples there are."""
    return sorted(path.parent.name for path in ALL.glob("*/README.md"))


def read(folder: Path) -> Example:
    """The example of a folder; raises LabError when it has no manifests, or its `expect.toml` is not valid."""
    if not any(folder.glob("*.yaml")):
        raise LabError(f"there are no manifests in {folder}; name a directory with --manifests")
    path = folder / "expect.toml"
    if not path.exists():
        return Example(folder)
    try:
        expected = tomllib.loads(path.read_text(encoding="utf-8"))
        reach = tuple(_reach(item) for item in expected.pop("reach", ()))
        show = tuple(Show(**item) for item in expected.pop("show", ()))
    except (OSError, KeyError, TypeError, ValueError, re.error) as error:
        raise LabError(f"{path}: {error}") from None
    if expected:
        raise LabError(f"{path}: unknown key {next(iter(expected))!r}; there are 'reach' and 'show'")
    return Example(folder, reach, show)


def _reach(item: Mapping[str, Any]) -> Reach:
    rest = {key: value for key, value in item.items() if key not in ("from", "to")}
    return Reach(source=item["from"], target=item["to"], **rest)


class Name(click.Choice[str]):
    """The name of an example, as an argument of a command."""

    def __init__(self) -> None:
        super().__init__(names())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name; a usage error with the one that was probably meant."""
        if value in self.choices:
            return value
        advice = did_you_mean(value, self.choices) or f"; there are {', '.join(self.choices)}"
        return self.fail(f"there is no example {value!r}{advice}", param, ctx)
