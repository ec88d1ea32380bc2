"""What is wanted of nftables by whom, and the plan that makes the table so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from ovnkit.api.nft import NftChain, NftRule, NftSet, Statement
from ovnkit.engine.refusals import Refusals
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host import nfttext
from ovnkit.sinks.host.nftplan import Context, Name, Part, Plan, PlannedRule, element_part, rule_part
from ovnkit.sinks.host.nfttext import WHOLE, Listed, Parts


@define
class Wanted:
    """Who wants which chains, sets, rules of a chain, and elements of a set (with their values)."""

    chains: dict[str, dict[Owner, NftChain]] = field(factory=dict)
    sets: dict[str, dict[Owner, NftSet]] = field(factory=dict)
    rules: dict[str, dict[Owner, list[NftRule]]] = field(factory=dict)
    elements: dict[str, dict[Parts, dict[Owner, Parts]]] = field(factory=dict)

    def owners(self, part: Part) -> set[Owner]:
        """Who wants a part."""
        kind, what = part[0], part[1]
        if kind == "chain":
            return {*self.chains.get(what, ()), *self.rules.get(what, ())}
        if kind == "set":
            return {*self.sets.get(what, ())}
        if kind == "element":
            return self._owners_of_element(what, part[2:])
        return {
            owner
            for owner, rules in self.rules.get(what, {}).items()
            for rule in rules
            if part[2] in (nfttext.rule_text(rule.statements), nfttext.rule_text(rule.otherwise))
        }

    def _owners_of_element(self, name: str, key: Parts) -> set[Owner]:
        """Who wants an element; of an interval set, who wants a part of it."""
        wanted = self.elements.get(name, {})
        item: NftSet | None = first(self.sets.get(name))
        if item is None or not item.interval:
            return {*wanted.get(key, ())}
        whole = nfttext.collapse([key])
        return {
            owner for part, claims in wanted.items() if nfttext.collapse([key, part]) == whole for owner in claims
        }


@frozen
class Planner:
    """Makes plans: from what is wanted, what is there, and what nft has refused.

    `bodies` are the listed bodies of our rules as first seen, by their signature.
    """

    wanted: Wanted
    actual: Listed
    refusals: Refusals[Part]
    bodies: Mapping[str, bytes]

    def plan(self, dirty: Collection[Name], dirty_elements: Mapping[str, Collection[Parts]]) -> Plan:
        """The plan for chains, sets, and elements of sets that may differ."""
        plan = Plan(self.actual)
        held = self.refusals.is_held
        chains = sorted(name for kind, name in dirty if kind == "chain" and not held(("chain", name)))
        sets = {name for kind, name in dirty if kind == "set" and not held(("set", name))}
        remade = {name for name in sets if self._plan_set(plan, name)}
        for name in chains:
            self._plan_chain(plan, name, remade)
        for name in sorted(dirty_elements):
            if not held(("set", name)):
                self._plan_elements(plan, name, dirty_elements[name], remade)
        return plan

    def context(self, plan: Plan) -> Context:
        """What the parts of a plan may name, or be reached from. Only what is there already: it is no suspect."""
        context, there = Context(), plan.base
        for name, sets in self.wanted.sets.items():
            item: NftSet = first(sets)
            if ("set", name) not in plan.make and there.sets.get(name) == nfttext.shape_of_set(item):
                context.things.append(nfttext.add_set(item))
                if item.interval and name in plan.new:
                    gone = plan.gone.get(name, ())
                    standing = [found for found in there.elements.get(name, {}).items() if found[0] not in gone]
                    context.elements.extend(nfttext.elements("add", name, standing))
        for name, chains in self.wanted.chains.items():
            chain: NftChain = first(chains)
            if ("chain", name) not in plan.make and there.chains.get(name) == nfttext.shape_of_chain(chain):
                context.things.append(nfttext.add_chain(chain))
                if name not in plan.rules:
                    comments = {comment for comment, _ in there.rules.get(name, ())}
                    texts = [text for rule in self._planned_rules(name) for text in rule.texts()]
                    context.rules.extend(
                        nfttext.add_rule(name, text) for text in texts if nfttext.signature(text) in comments
                    )
        return context

    def _plan_set(self, plan: Plan, name: str) -> bool:
        """Plan a set; whether it is made anew (and so empty)."""
        shape = self.actual.sets.get(name)
        item = first(self.wanted.sets.get(name))
        if item is not None and shape == nfttext.shape_of_set(item):
            return False
        if shape is not None:
            plan.remove[("set", name)] = [f"delete {'map' if shape[1] else 'set'} {WHOLE} {name}"]
        if item is not None:
            plan.make[("set", name)] = [nfttext.add_set(item)]
        return True

    def _plan_chain(self, plan: Plan, name: str, remade: set[str]) -> None:
        item = first(self.wanted.chains.get(name))
        shape = self.actual.chains.get(name)
        rules = list(self._planned_rules(name)) if item is not None else []
        wanted = [text for rule in rules for text in rule.texts()[:1]]
        there = self.actual.rules.get(name, [])
        same_shape = item is not None and shape == nfttext.shape_of_chain(item)
        comments = [comment for comment, _ in there]
        untouched = all(self.bodies.get(comment, body) == body for comment, body in there)
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
            for owner, rules in self.wanted.rules.get(chain, {}).items()
            for position, rule in enumerate(rules)
        ]
        for _, _, _, rule in sorted(found, key=lambda entry: entry[:3]):
            texts = [
                nfttext.rule_text(statements)
                for statements in (rule.statements, rule.otherwise)
                if statements and self._has_all(statements)
            ]
            texts = [text for text in texts if not self.refusals.is_held(rule_part(chain, text))]
            if texts:
                yield PlannedRule(*texts)

    def _has_all(self, statements: Sequence[Statement]) -> bool:
        """Whether the sets and chains that a rule names are there, or will be."""
        sets, chains = nfttext.references(statements)
        names: list[Part] = [*(("set", name) for name in sets), *(("chain", name) for name in chains)]
        wanted = sets <= self.wanted.sets.keys() and chains <= self.wanted.chains.keys()
        return wanted and not any(self.refusals.is_held(name) for name in names)

    def _plan_elements(self, plan: Plan, name: str, dirty: Collection[Parts], remade: set[str]) -> None:
        item = first(self.wanted.sets.get(name))
        if item is None:
            return
        there = {} if name in remade else self.actual.elements.get(name, {})
        wanted = self.wanted.elements.get(name, {})
        keys: Collection[Parts] = set(wanted) if name in remade else dirty
        if item.interval:
            desired: dict[Parts, Parts] = dict.fromkeys(nfttext.collapse(wanted), ())
            keys = desired.keys() | there.keys()
        else:
            desired = {key: first(wanted[key]) or () for key in keys if key in wanted}
        keys = [key for key in sorted(keys) if not self.refusals.is_held(element_part(name, key))]
        gone = [key for key in keys if key in there and desired.get(key) != there[key]]
        new = [(key, desired[key]) for key in keys if key in desired and there.get(key) != desired[key]]
        if gone:
            plan.gone[name] = gone
        if new:
            plan.new[name] = new


def first(claims: dict[Owner, Any] | None) -> Any:
    """What the first owner by name wants; None when nobody wants anything."""
    return claims[min(claims, key=str)] if claims else None
