"""Which plugins run, and in which order: needs, after, cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from attrs import frozen

from ovnkit.api.hooks import Declaration


@frozen
class Order:
    """`names` that run, in order; `off` are those that can't, by name with the reason."""

    names: tuple[str, ...]
    off: Mapping[str, str]


def order(declarations: Mapping[str, Declaration], why_absent: Mapping[str, str]) -> Order:
    """Sort the wanted plugins so that what one needs or follows comes first; ties go by name.

    `why_absent` says of plugins that aren't wanted or couldn't be loaded why they are not there.
    """
    left = dict(declarations)
    off: dict[str, str] = {}
    while True:
        unmet = {name: reason for name in left if (reason := _unmet(name, left, {**why_absent, **off}))}
        cycle = () if unmet else _cycle(left)
        for name in cycle:
            unmet[name] = f"in a cycle of needs and after: {' -> '.join((*cycle, cycle[0]))}"
        if not unmet:
            return Order(tuple(_sorted(left)), off)
        off |= unmet
        left = {name: declaration for name, declaration in left.items() if name not in unmet}


def _unmet(name: str, left: Mapping[str, Declaration], why_absent: Mapping[str, str]) -> str:
    missing = sorted(need for need in left[name].needs if need not in left)
    return "; ".join(f"needs {need}, which is {why_absent.get(need, 'not installed')}" for need in missing)


def _graph(left: Mapping[str, Declaration]) -> dict[str, list[str]]:
    return {
        name: sorted({other for other in (*declared.needs, *declared.after) if other in left})
        for name, declared in sorted(left.items())
    }


def _cycle(left: Mapping[str, Declaration]) -> tuple[str, ...]:
    try:
        TopologicalSorter(_graph(left)).prepare()
    except CycleError as error:
        return tuple(error.args[1][1:])
    return ()


def _sorted(left: Mapping[str, Declaration]) -> Iterable[str]:
    sorter = TopologicalSorter(_graph(left))
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        yield from ready
        sorter.done(*ready)
