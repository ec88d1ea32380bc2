"""The nft sink: the table `inet ovn-kubernetes`, changed in atomic transactions, element by element.

Nothing is touched until everything has been rendered once: chains and sets are shared by plugins, and half a
chain is worse than the one of the former run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from ovnkit.api.nft import NftChain, NftElement, NftItem, NftRule, NftSet
from ovnkit.engine.refusals import Refusals, ReportedOwners
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.host import nfttext
from ovnkit.sinks.host.nftio import Look, NftWorker, Outcome
from ovnkit.sinks.host.nftplan import Name, Part, Plan, element_part, rule_part
from ovnkit.sinks.host.nftplanner import Planner, Wanted
from ovnkit.sinks.host.nfttext import WHOLE, Listed, Parts

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]
FIRST_RETRY, LAST_RETRY = 1.0, 60.0

_TABLE: Part = ("table",)
"""Stands for everything, when nft fails and no part is to blame."""


class NftSink(Sink[NftItem]):
    """Holds nftables to the nft items. See `ovnkit.engine.sink.Sink`.

    What nft refuses (a chain, a set, a rule, an element) is left out, reported and tried again later; all the rest
    is applied, in one transaction as ever.
    """

    name = "nft"
    item_types: tuple[type, ...] = (NftChain, NftRule, NftSet, NftElement)

    def __init__(self, post: Post, report: Report) -> None:
        self._reported: ReportedOwners[Part] = ReportedOwners(report)
        self._wanted: dict[Owner, tuple[NftItem, ...]] = {}
        self._what = Wanted()
        self._actual: Listed | None = None
        self._exists = False
        self._bodies: dict[str, bytes] = {}
        self._dirty: set[Name] = set()
        self._dirty_elements: dict[str, set[Parts]] = {}
        self._refusals: Refusals[Part] = Refusals(FIRST_RETRY, LAST_RETRY, over=self._reported.over)
        self._busy = False
        self._settled = False
        self._worker = NftWorker(post, self._listed, self._applied, self.flush)

    def start(self) -> None:
        """Start the threads, in this network namespace."""
        self._worker.start()

    def stop(self) -> None:
        """End the threads; the table stays as it is."""
        self._worker.stop()

    # -- what is wanted ---------------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[NftItem]) -> None:
        """From now on `owner` wants exactly these items."""
        before, after = set(self._wanted.get(owner, ())), set(items)
        for item in after - before:
            _check(item)
        for item in before - after:
            self._drop(owner, item)
            for part in _parts(item) if self._refusals else ():
                self._refusals.forget(part)
        for item in after - before:
            self._add(owner, item)
        self._want_rules(owner, items)
        if items:
            self._wanted[owner] = tuple(items)
        else:
            self._wanted.pop(owner, None)

    def _want_rules(self, owner: Owner, items: Sequence[NftItem]) -> None:
        """Rules are kept in the order in which their owner names them: it decides among equal `order`."""
        after: dict[str, list[NftRule]] = {}
        for item in dict.fromkeys(items):
            if isinstance(item, NftRule):
                after.setdefault(item.chain, []).append(item)
        former = {item.chain for item in self._wanted.get(owner, ()) if isinstance(item, NftRule)}
        for chain in former | after.keys():
            if self._what.rules.get(chain, {}).get(owner) == after.get(chain):
                continue
            if chain in after:
                self._what.rules.setdefault(chain, {})[owner] = after[chain]
            else:
                _discard_one(self._what.rules, chain, owner)
            self._touch("chain", chain)

    def _add(self, owner: Owner, item: NftItem) -> None:
        if isinstance(item, NftElement):
            key = nfttext.parts(item.key)
            self._what.elements.setdefault(item.set, {}).setdefault(key, {})[owner] = nfttext.parts(item.value)
            self._dirty_elements.setdefault(item.set, set()).add(key)
        elif isinstance(item, NftSet):
            self._what.sets.setdefault(item.name, {})[owner] = item
            self._refusals.forget(("set", item.name))
            self._touch_set(item.name)
        elif isinstance(item, NftChain):
            self._what.chains.setdefault(item.name, {})[owner] = item
            self._refusals.forget(("chain", item.name))
            self._touch_chains()

    def _drop(self, owner: Owner, item: NftItem) -> None:
        if isinstance(item, NftElement):
            key = nfttext.parts(item.key)
            _discard(self._what.elements, item.set, key, owner)
            self._dirty_elements.setdefault(item.set, set()).add(key)
        elif isinstance(item, NftSet):
            if self._what.sets.get(item.name, {}).get(owner) == item:
                _discard_one(self._what.sets, item.name, owner)
            self._touch_set(item.name)
        elif isinstance(item, NftChain):
            if self._what.chains.get(item.name, {}).get(owner) == item:
                _discard_one(self._what.chains, item.name, owner)
            self._touch_chains()

    def _touch(self, kind: str, name: str) -> None:
        self._dirty.add((kind, name))

    def _touch_set(self, name: str) -> None:
        # Rules may refer to it, and elements wait for it.
        self._touch("set", name)
        self._dirty_elements.setdefault(name, set()).update(self._what.elements.get(name, ()))
        self._touch_chains()

    def _touch_chains(self) -> None:
        there = self._actual.chains.keys() if self._actual is not None else ()
        for name in {*self._what.chains, *self._what.rules, *there}:
            self._touch("chain", name)

    def settle(self) -> None:
        """Everything has been rendered once: now the table is made what it should be."""
        self._settled = True
        self._touch_everything()

    def _touch_everything(self) -> None:
        if self._actual is None:
            return
        self._touch_chains()
        for name in {*self._what.sets, *self._actual.sets}:
            self._touch("set", name)
        for name in {*self._what.elements, *self._actual.elements}:
            keys = {*self._what.elements.get(name, ()), *self._actual.elements.get(name, ())}
            self._dirty_elements.setdefault(name, set()).update(keys)

    # -- applying ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Start applying what differs."""
        if self._actual is None or not self._settled or self._busy or self._refusals.is_held(_TABLE):
            return
        if not self._wanted:
            if self._exists:
                self._busy = True
                self._worker.apply([f"delete table {WHOLE}"], Plan(self._actual))
            self._dirty.clear()
            self._dirty_elements.clear()
            return
        due = self._refusals.due
        for part in due:
            self._touch_again(part)
        if not self._dirty and not self._dirty_elements:
            return
        plan = self._planner(self._actual).plan(self._dirty, self._dirty_elements)
        self._dirty.clear()
        self._dirty_elements.clear()
        for part in set(due).difference(plan.parts, (_TABLE,)):
            self._refusals.forget(part)
        commands = plan.commands()
        if commands:
            self._busy = True
            self._worker.apply(commands, plan)

    def _planner(self, actual: Listed) -> Planner:
        return Planner(self._what, actual, self._refusals, self._bodies)

    def _touch_again(self, part: Part) -> None:
        """It is time to try what was refused."""
        if part == _TABLE:
            self._touch_everything()
        elif not self._what.owners(part):
            self._refusals.forget(part)
        elif part[0] == "element":
            self._dirty_elements.setdefault(part[1], set()).add(part[2:])
        elif part[0] == "set":
            self._touch_set(part[1])
        else:
            self._touch("chain", part[1])

    # -- answers of the worker (reconciler's thread) ------------------------------------------------------------

    def _listed(self, look: Look) -> None:
        """The table was read: at start, after a change of rules, by others or refused, and now and then."""
        self._exists = look.content is not None
        self._actual = look.content or Listed()
        for rules in self._actual.rules.values():
            for comment, body in rules:
                if comment.startswith(nfttext.SIGNATURE):
                    self._bodies.setdefault(comment, body)
        self._touch_everything()
        self.flush()

    def _applied(self, plan: Plan, outcome: Outcome) -> None:
        """A plan was applied, but for what was refused."""
        if outcome.search:
            log.info("nftables refused a transaction, trying its parts")
            self._worker.apply_parts(plan, self._planner(plan.base).context(plan))
            return
        self._busy = False
        if outcome.error:
            self._refusals.refuse(_TABLE, outcome.error)
            log.warning("nftables can't be changed", error=outcome.error)
        else:
            self._accepted(plan, outcome.refused)
        for part, message in outcome.refused.items():
            self._refused(part, message)
        if (pause := self._refusals.pause) is not None:
            self._worker.wake_after(pause)
        if outcome.look is not None:
            self._listed(outcome.look)
            return
        if not outcome.error:
            self._take(plan, outcome.refused)
        self.flush()

    def _take(self, plan: Plan, refused: Mapping[Part, str]) -> None:
        """The elements of a set are now as the plan has them."""
        assert self._actual is not None
        for name, keys in plan.gone.items():
            for key in keys:
                if element_part(name, key) not in refused:
                    self._actual.elements[name].pop(key, None)
        for name, found in plan.new.items():
            taken = {key: value for key, value in found if element_part(name, key) not in refused}
            self._actual.elements.setdefault(name, {}).update(taken)

    def _accepted(self, plan: Plan, refused: Mapping[Part, str]) -> None:
        self._refusals.forget(_TABLE)
        if self._refusals:
            for part in plan.parts:
                if part in refused or part not in self._refusals:
                    continue
                self._refusals.forget(part)
                if part[0] in ("set", "chain"):
                    self._try_rules_again()

    def _try_rules_again(self) -> None:
        """A set or chain is there after all: rules that name it may be accepted now."""
        for part in self._refusals.messages:
            if part[0] == "rule":
                self._refusals.forget(part)
        self._touch_chains()

    def _refused(self, part: Part, message: str) -> None:
        owners = self._what.owners(part)
        # Nobody may want it any more, since the plan was made.
        if owners and self._refusals.refuse(part, message):
            what = f"{part[0]} {' '.join(part[1:])}"
            log.warning("nftables refused", what=what, error=message)
            self._reported.refused(part, owners, RuntimeError(f"nftables refused {what}: {message}"))

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is to be applied or in flight; what failed doesn't count."""
        return not self._busy and not (self._settled and (self._dirty or self._dirty_elements))

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self._actual is not None

    def status(self) -> dict[str, Any]:
        """See `ovnkit.engine.sink.Sink.status`."""
        actual = self._actual or Listed()
        return {
            "connected": self.ready,
            "owned": sum(len(rules) for rules in actual.rules.values())
            + sum(len(elements) for elements in actual.elements.values()),
            "pending": len(self._dirty) + sum(len(keys) for keys in self._dirty_elements.values()),
            "failed": {" ".join(part): message for part, message in self._refusals.messages.items()},
            "last_error": next(iter(self._refusals.messages.values()), ""),
        }


def _check(item: NftItem) -> None:
    """Raise ValueError or TypeError when an item has no text, before anything is changed because of it."""
    if isinstance(item, NftElement):
        nfttext.parts(item.key)
        nfttext.parts(item.value)
    elif isinstance(item, NftRule):
        nfttext.rule_text(item.statements)
        nfttext.rule_text(item.otherwise)


def _parts(item: NftItem) -> list[Part]:
    """The parts of plans that an item may become."""
    if isinstance(item, NftElement):
        return [element_part(item.set, nfttext.parts(item.key))]
    if isinstance(item, NftRule):
        return [rule_part(item.chain, nfttext.rule_text(found)) for found in (item.statements, item.otherwise)]
    return [("set" if isinstance(item, NftSet) else "chain", item.name)]


def _discard_one(table: dict[str, dict[Owner, Any]], name: str, owner: Owner) -> None:
    claims = table.get(name, {})
    claims.pop(owner, None)
    if not claims:
        table.pop(name, None)


def _discard(table: dict[str, dict[Parts, dict[Owner, Parts]]], name: str, key: Parts, owner: Owner) -> None:
    claims = table.get(name, {}).get(key, {})
    claims.pop(owner, None)
    if not claims:
        table.get(name, {}).pop(key, None)
    if not table.get(name):
        table.pop(name, None)
