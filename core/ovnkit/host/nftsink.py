"""The nft sink: the table `inet ovn-kubernetes`, changed in atomic transactions, element by element.

Nothing is touched until everything has been rendered once: chains and sets are shared by plugins, and half a
chain is worse than the one of the former run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from ovnkit.api.nft import NftChain, NftElement, NftItem, NftRule, NftSet
from ovnkit.api.sinks import Owner, Report, Sink
from ovnkit.host import nfttext
from ovnkit.host.nftio import Look, NftWorker
from ovnkit.host.nftplan import Name, Plan
from ovnkit.host.nfttext import WHOLE, Listed, Parts

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]
FIRST_RETRY, LAST_RETRY = 1.0, 60.0


class NftSink(Sink):
    """Holds nftables to the nft items. See `ovnkit.api.sinks.Sink`."""

    name = "nft"
    item_types: tuple[type, ...] = (NftChain, NftRule, NftSet, NftElement)

    def __init__(self, post: Post, report: Report) -> None:
        self._report = report
        self._wanted: dict[Owner, tuple[NftItem, ...]] = {}
        self._chains: dict[str, dict[Owner, NftChain]] = {}
        self._sets: dict[str, dict[Owner, NftSet]] = {}
        self._rules: dict[str, dict[Owner, list[NftRule]]] = {}
        self._elements: dict[str, dict[Parts, dict[Owner, Parts]]] = {}
        self._actual: Listed | None = None
        self._exists = False
        self._bodies: dict[str, bytes] = {}
        self._dirty: set[Name] = set()
        self._dirty_elements: dict[str, set[Parts]] = {}
        self._failed: dict[Name, tuple[float, float, str]] = {}
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
        for item in before - after:
            self._drop(owner, item)
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
            if self._rules.get(chain, {}).get(owner) == after.get(chain):
                continue
            if chain in after:
                self._rules.setdefault(chain, {})[owner] = after[chain]
            else:
                _discard_one(self._rules, chain, owner)
            self._touch("chain", chain)

    def _add(self, owner: Owner, item: NftItem) -> None:
        if isinstance(item, NftElement):
            key = nfttext.parts(item.key)
            self._elements.setdefault(item.set, {}).setdefault(key, {})[owner] = nfttext.parts(item.value)
            self._dirty_elements.setdefault(item.set, set()).add(key)
        elif isinstance(item, NftSet):
            self._sets.setdefault(item.name, {})[owner] = item
            self._touch_set(item.name)
        elif isinstance(item, NftChain):
            self._chains.setdefault(item.name, {})[owner] = item
            self._touch_chains()

    def _drop(self, owner: Owner, item: NftItem) -> None:
        if isinstance(item, NftElement):
            key = nfttext.parts(item.key)
            _discard(self._elements, item.set, key, owner)
            self._dirty_elements.setdefault(item.set, set()).add(key)
        elif isinstance(item, NftSet):
            if self._sets.get(item.name, {}).get(owner) == item:
                _discard_one(self._sets, item.name, owner)
            self._touch_set(item.name)
        elif isinstance(item, NftChain):
            if self._chains.get(item.name, {}).get(owner) == item:
                _discard_one(self._chains, item.name, owner)
            self._touch_chains()

    def _touch(self, kind: str, name: str) -> None:
        self._dirty.add((kind, name))
        self._failed.pop((kind, name), None)

    def _touch_set(self, name: str) -> None:
        # Rules may refer to it, and elements wait for it. Sets come and go with plugins, not with objects.
        self._touch("set", name)
        self._dirty_elements.setdefault(name, set()).update(self._elements.get(name, ()))
        self._touch_chains()

    def _touch_chains(self) -> None:
        there = self._actual.chains.keys() if self._actual is not None else ()
        for name in {*self._chains, *self._rules, *there}:
            self._touch("chain", name)

    def settle(self) -> None:
        """Everything has been rendered once: now the table is made what it should be."""
        self._settled = True
        self._touch_everything()

    def _touch_everything(self) -> None:
        if self._actual is None:
            return
        self._touch_chains()
        for name in {*self._sets, *self._actual.sets}:
            self._touch("set", name)
        for name in {*self._elements, *self._actual.elements}:
            keys = {*self._elements.get(name, ()), *self._actual.elements.get(name, ())}
            self._dirty_elements.setdefault(name, set()).update(keys)

    # -- applying ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Start applying what differs."""
        if self._actual is None or not self._settled or self._busy:
            return
        if not self._wanted:
            if self._exists:
                self._busy = True
                self._worker.apply([f"delete table {WHOLE}"], Plan())
            self._dirty.clear()
            self._dirty_elements.clear()
            return
        if not self._dirty and not self._dirty_elements:
            return
        plan = self._plan()
        commands = plan.commands()
        if commands:
            self._busy = True
            self._worker.apply([f"add table {WHOLE}", *commands], plan)

    def _plan(self) -> Plan:
        assert self._actual is not None
        now = time.monotonic()
        plan = Plan()
        waiting = {name for name, (again, _, _) in self._failed.items() if again > now}
        chains = sorted(name for kind, name in self._dirty - waiting if kind == "chain")
        sets = {name for kind, name in self._dirty - waiting if kind == "set"}
        remade = {name for name in sets if self._plan_set(plan, name)}
        for name in chains:
            self._plan_chain(plan, name, self._actual, remade)
        for name in sorted(self._dirty_elements):
            if ("set", name) not in waiting:
                self._plan_elements(plan, name, self._actual, remade)
        self._dirty &= waiting
        self._dirty_elements = {
            name: keys for name, keys in self._dirty_elements.items() if ("set", name) in waiting
        }
        return plan

    def _plan_set(self, plan: Plan, name: str) -> bool:
        """Plan a set; whether it is made anew (and so empty)."""
        assert self._actual is not None
        shape = self._actual.sets.get(name)
        item = _first(self._sets.get(name))
        if item is not None and shape == nfttext.shape_of_set(item):
            return False
        if shape is not None:
            plan.remove[("set", name)] = [f"delete {'map' if shape[1] else 'set'} {WHOLE} {name}"]
        if item is not None:
            plan.make[("set", name)] = [nfttext.add_set(item)]
        return True

    def _plan_chain(self, plan: Plan, name: str, actual: Listed, remade: set[str]) -> None:
        item = _first(self._chains.get(name))
        shape = actual.chains.get(name)
        wanted = self._rule_texts(name) if item is not None else []
        there = actual.rules.get(name, [])
        same_shape = item is not None and shape == nfttext.shape_of_chain(item)
        signatures = [nfttext.signature(text) for text, _ in wanted]
        untouched = all(self._bodies.get(comment, body) == body for comment, body in there)
        looks_up = any(sets & remade for _, sets in wanted)
        if same_shape and signatures == [comment for comment, _ in there] and untouched and not looks_up:
            return
        key = ("chain", name)
        if shape is not None:
            plan.clear[key] = [f"flush chain {WHOLE} {name}"]
            if not same_shape:
                plan.remove[key] = [f"delete chain {WHOLE} {name}"]
        if item is not None:
            if not same_shape:
                plan.make[key] = [nfttext.add_chain(item)]
            plan.fill[key] = [nfttext.add_rule(name, text) for text, _ in wanted]

    def _rule_texts(self, chain: str) -> list[tuple[str, set[str]]]:
        """The rules of a chain in order, with the sets they name; those that name what isn't there wait."""
        found = [
            (rule.order, str(owner), position, rule)
            for owner, rules in self._rules.get(chain, {}).items()
            for position, rule in enumerate(rules)
        ]
        texts = []
        for _, _, _, rule in sorted(found, key=lambda entry: entry[:3]):
            sets, chains = nfttext.references(rule.statements)
            if sets <= self._sets.keys() and chains <= self._chains.keys():
                texts.append((nfttext.rule_text(rule.statements), sets))
        return texts

    def _plan_elements(self, plan: Plan, name: str, actual: Listed, remade: set[str]) -> None:
        item = _first(self._sets.get(name))
        if item is None:
            return
        there = {} if name in remade else actual.elements.get(name, {})
        wanted = self._elements.get(name, {})
        keys: set[Parts] | frozenset[Parts] = set(wanted) if name in remade else self._dirty_elements[name]
        if item.interval:
            desired: dict[Parts, Parts] = dict.fromkeys(nfttext.collapse(wanted), ())
            keys = desired.keys() | there.keys()
        else:
            desired = {key: _first(wanted[key]) or () for key in keys if key in wanted}
        gone = [(key, ()) for key in sorted(keys) if key in there and desired.get(key) != there[key]]
        new = [(key, desired[key]) for key in sorted(keys) if key in desired and there.get(key) != desired[key]]
        if gone:
            plan.clear[("set", name)] = list(nfttext.elements("delete", name, gone))
            plan.gone[name] = [key for key, _ in gone]
        if new:
            plan.fill[("set", name)] = list(nfttext.elements("add", name, new))
            plan.new[name] = new

    # -- answers of the worker (reconciler's thread) ------------------------------------------------------------

    def _listed(self, look: Look) -> None:
        """The table was read: at start, after a change of rules, by others or refused, and now and then."""
        self._exists = look.content is not None
        self._actual = look.content or Listed()
        for rules in self._actual.rules.values():
            for comment, body in rules:
                if comment.startswith(nfttext.SIGNATURE):
                    self._bodies.setdefault(comment, body)
        failed = dict(self._failed)
        self._touch_everything()
        self._failed = failed
        self.flush()

    def _applied(self, plan: Plan, failures: dict[Name, str], look: Look | None) -> None:
        """A plan was applied; `failures` says what of it was refused. `look` is None when none was needed."""
        self._busy = False
        for name in plan.names:
            if name in failures:
                self._fail(name, failures[name])
            else:
                self._failed.pop(name, None)
        if look is not None:
            self._listed(look)
            return
        assert self._actual is not None
        for set_name, keys in plan.gone.items():
            for key in keys:
                self._actual.elements[set_name].pop(key, None)
        for set_name, found in plan.new.items():
            self._actual.elements.setdefault(set_name, {}).update(found)
        self.flush()

    def _fail(self, name: Name, message: str) -> None:
        before = self._failed.get(name)
        delay = min(LAST_RETRY, before[1] * 2) if before is not None else FIRST_RETRY
        self._failed[name] = (time.monotonic() + delay, delay, message)
        self._dirty.add(name)
        self._worker.wake_after(delay)
        log.warning("nftables refused", what=" ".join(name), error=message, again_in=delay)
        if before is None or before[2] != message:
            for owner in self._owners(name):
                self._report(owner, RuntimeError(f"nftables {name[0]} {name[1]}: {message}"))

    def _owners(self, name: Name) -> set[Owner]:
        kind, what = name
        if kind == "chain":
            return {*self._chains.get(what, ()), *self._rules.get(what, ())}
        return {*self._sets.get(what, ())}

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is to be applied or in flight; what failed doesn't count."""
        pending = (self._dirty | {("set", name) for name in self._dirty_elements}) - self._failed.keys()
        return not self._busy and not (self._settled and pending)

    @property
    def ready(self) -> bool:
        """Whether the table has been read once."""
        return self._actual is not None

    def status(self) -> dict[str, Any]:
        """See `ovnkit.api.sinks.Sink.status`."""
        actual = self._actual or Listed()
        return {
            "connected": self.ready,
            "owned": sum(len(rules) for rules in actual.rules.values())
            + sum(len(elements) for elements in actual.elements.values()),
            "pending": len(self._dirty) + sum(len(keys) for keys in self._dirty_elements.values()),
            "failed": {" ".join(name): message for name, (_, _, message) in self._failed.items()},
            "last_error": next((message for _, _, message in self._failed.values()), ""),
        }


def _first(claims: dict[Owner, Any] | None) -> Any:
    """What the first owner by name wants; None when nobody wants anything."""
    return claims[min(claims, key=str)] if claims else None


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
