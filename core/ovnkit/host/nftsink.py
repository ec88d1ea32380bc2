"""The nft sink: the table `inet ovn-kubernetes`, changed in atomic transactions, element by element.

Nothing is touched until everything has been rendered once: chains and sets are shared by plugins, and half a
chain is worse than the one of the former run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import structlog

from ovnkit.api.nft import NftChain, NftElement, NftItem, NftRule, NftSet, Statement
from ovnkit.api.refusals import Refusals
from ovnkit.api.sinks import Owner, Report, Sink
from ovnkit.host import nfttext
from ovnkit.host.nftio import Look, NftWorker, Outcome
from ovnkit.host.nftplan import Context, Name, Part, Plan, PlannedRule, element_part, rule_part
from ovnkit.host.nfttext import WHOLE, Listed, Parts

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]
FIRST_RETRY, LAST_RETRY = 1.0, 60.0

_TABLE: Part = ("table",)
"""Stands for everything, when nft fails and no part is to blame."""


class NftSink(Sink):
    """Holds nftables to the nft items. See `ovnkit.api.sinks.Sink`.

    What nft refuses (a chain, a set, a rule, an element) is left out, reported and tried again later; all the rest
    is applied, in one transaction as ever.
    """

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
        self._refusals: Refusals[Part] = Refusals(FIRST_RETRY, LAST_RETRY)
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
            self._refusals.forget(("set", item.name))
            self._touch_set(item.name)
        elif isinstance(item, NftChain):
            self._chains.setdefault(item.name, {})[owner] = item
            self._refusals.forget(("chain", item.name))
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

    def _touch_set(self, name: str) -> None:
        # Rules may refer to it, and elements wait for it.
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
        plan = self._plan(self._actual)
        for part in set(due).difference(plan.parts, (_TABLE,)):
            self._refusals.forget(part)
        commands = plan.commands()
        if commands:
            self._busy = True
            self._worker.apply(commands, plan)

    def _touch_again(self, part: Part) -> None:
        """It is time to try what was refused."""
        if part == _TABLE:
            self._touch_everything()
        elif not self._owners(part):
            self._refusals.forget(part)
        elif part[0] == "element":
            self._dirty_elements.setdefault(part[1], set()).add(part[2:])
        elif part[0] == "set":
            self._touch_set(part[1])
        else:
            self._touch("chain", part[1])

    def _plan(self, actual: Listed) -> Plan:
        plan = Plan(actual)
        held = self._refusals.is_held
        chains = sorted(name for kind, name in self._dirty if kind == "chain" and not held(("chain", name)))
        sets = {name for kind, name in self._dirty if kind == "set" and not held(("set", name))}
        remade = {name for name in sets if self._plan_set(plan, name)}
        for name in chains:
            self._plan_chain(plan, name, actual, remade)
        for name in sorted(self._dirty_elements):
            if not held(("set", name)):
                self._plan_elements(plan, name, actual, remade)
        self._dirty.clear()
        self._dirty_elements.clear()
        return plan

    def _context(self, plan: Plan) -> Context:
        """What the parts of a plan may name, or be reached from."""
        context = Context()
        held = self._refusals.is_held
        for name, sets in self._sets.items():
            if ("set", name) not in plan.make and not held(("set", name)):
                context.things.append(nfttext.add_set(_first(sets)))
        for name, chains in self._chains.items():
            if held(("chain", name)):
                continue
            if ("chain", name) not in plan.make:
                context.things.append(nfttext.add_chain(_first(chains)))
            if name not in plan.rules:
                texts = (rule.text for rule in self._planned_rules(name))
                context.rules.extend(nfttext.add_rule(name, text) for text in texts)
        return context

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
        rules = list(self._planned_rules(name)) if item is not None else []
        wanted = [text for rule in rules for text in rule.texts()[:1]]
        there = actual.rules.get(name, [])
        same_shape = item is not None and shape == nfttext.shape_of_chain(item)
        comments = [comment for comment, _ in there]
        untouched = all(self._bodies.get(comment, body) == body for comment, body in there)
        looks_up = any(nfttext.names_any(text, remade) for text in wanted)
        as_it_is = same_shape and untouched and not looks_up
        if as_it_is and [nfttext.signature(text) for text in wanted] == comments:
            return
        if as_it_is:
            plan.retried.add(name)
        key = ("chain", name)
        if shape is not None:
            plan.clear[key] = [f"flush chain {WHOLE} {name}"]
            if not same_shape:
                plan.remove[key] = [f"delete chain {WHOLE} {name}"]
        if item is not None:
            if not same_shape:
                plan.make[key] = [nfttext.add_chain(item)]
            plan.rules[name] = rules

    def _planned_rules(self, chain: str) -> Iterator[PlannedRule]:
        """The rules of a chain in order. One that was refused, or names what isn't there, is replaced or waits."""
        found = [
            (rule.order, str(owner), position, rule)
            for owner, rules in self._rules.get(chain, {}).items()
            for position, rule in enumerate(rules)
        ]
        for _, _, _, rule in sorted(found, key=lambda entry: entry[:3]):
            texts = [
                nfttext.rule_text(statements)
                for statements in (rule.statements, rule.otherwise)
                if statements and self._has_all(statements)
            ]
            texts = [text for text in texts if not self._refusals.is_held(rule_part(chain, text))]
            if texts:
                yield PlannedRule(*texts)

    def _has_all(self, statements: Sequence[Statement]) -> bool:
        """Whether the sets and chains that a rule names are there, or will be."""
        sets, chains = nfttext.references(statements)
        names: list[Part] = [*(("set", name) for name in sets), *(("chain", name) for name in chains)]
        wanted = sets <= self._sets.keys() and chains <= self._chains.keys()
        return wanted and not any(self._refusals.is_held(name) for name in names)

    def _plan_elements(self, plan: Plan, name: str, actual: Listed, remade: set[str]) -> None:
        item = _first(self._sets.get(name))
        if item is None:
            return
        there = {} if name in remade else actual.elements.get(name, {})
        wanted = self._elements.get(name, {})
        keys: Collection[Parts] = set(wanted) if name in remade else self._dirty_elements[name]
        if item.interval:
            desired: dict[Parts, Parts] = dict.fromkeys(nfttext.collapse(wanted), ())
            keys = desired.keys() | there.keys()
        else:
            desired = {key: _first(wanted[key]) or () for key in keys if key in wanted}
        keys = [key for key in sorted(keys) if not self._refusals.is_held(element_part(name, key))]
        gone = [key for key in keys if key in there and desired.get(key) != there[key]]
        new = [(key, desired[key]) for key in keys if key in desired and there.get(key) != desired[key]]
        if gone:
            plan.gone[name] = gone
        if new:
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
        self._touch_everything()
        self.flush()

    def _applied(self, plan: Plan, outcome: Outcome) -> None:
        """A plan was applied, but for what was refused."""
        if outcome.search:
            log.info("nftables refused a transaction, trying its parts")
            self._worker.apply_parts(plan, self._context(plan))
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
        news = self._refusals.refuse(part, message)
        if news:
            what = f"{part[0]} {' '.join(part[1:])}"
            log.warning("nftables refused", what=what, error=message)
            for owner in self._owners(part):
                self._report(owner, RuntimeError(f"nftables refused {what}: {message}"))

    def _owners(self, part: Part) -> set[Owner]:
        kind, what = part[0], part[1]
        if kind == "chain":
            return {*self._chains.get(what, ()), *self._rules.get(what, ())}
        if kind == "set":
            return {*self._sets.get(what, ())}
        if kind == "element":
            return self._owners_of_element(what, part[2:])
        return {
            owner
            for owner, rules in self._rules.get(what, {}).items()
            for rule in rules
            if part[2] in (nfttext.rule_text(rule.statements), nfttext.rule_text(rule.otherwise))
        }

    def _owners_of_element(self, name: str, key: Parts) -> set[Owner]:
        """Who wants an element; of an interval set, who wants a part of it."""
        wanted = self._elements.get(name, {})
        item: NftSet | None = _first(self._sets.get(name))
        if item is None or not item.interval:
            return {*wanted.get(key, ())}
        whole = nfttext.collapse([key])
        return {
            owner for part, claims in wanted.items() if nfttext.collapse([key, part]) == whole for owner in claims
        }

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
        """See `ovnkit.api.sinks.Sink.status`."""
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
