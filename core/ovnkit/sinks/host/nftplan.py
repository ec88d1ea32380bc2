"""What one look at nftables and the wanted items make necessary: commands, in the order nft needs them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from attrs import field, frozen

from ovnkit.sinks.host import nfttext
from ovnkit.sinks.host.nfttext import WHOLE, Listed, Parts

Name = tuple[str, str]
"""A chain or set: ("chain", name) or ("set", name)."""

Part = tuple[str, ...]
"""What nft may refuse by itself: a `Name`, ("rule", chain, text) or ("element", set, parts of the key)."""


def rule_part(chain: str, text: str) -> Part:
    """A rule of a chain."""
    return ("rule", chain, text)


def element_part(name: str, key: Parts) -> Part:
    """An element of a set."""
    return ("element", name, *key)


@frozen
class PlannedRule:
    """A rule, and what stands in its place when nft refuses it (empty: nothing)."""

    text: str
    otherwise: str = ""

    def texts(self) -> tuple[str, ...]:
        """Both, the first choice first."""
        return tuple(text for text in (self.text, self.otherwise) if text)


@frozen
class Context:
    """Commands that make what is there and no part of a plan: sets and chains, elements of sets where one may
    exclude another, and rules of other chains."""

    things: list[str] = field(factory=list)
    elements: list[str] = field(factory=list)
    rules: list[str] = field(factory=list)


@frozen
class Plan:
    """Commands that bring things to what is wanted, in the order of nft's dependencies, by thing.

    `clear` empties chains, `gone` are elements to delete, by set; `remove` takes things away, `make` makes them;
    `new` are elements to add, `rules` the whole content of chains. `base` is what was there when it was made.
    """

    base: Listed = field(factory=Listed)
    clear: dict[Name, list[str]] = field(factory=dict)
    gone: dict[str, list[Parts]] = field(factory=dict)
    remove: dict[Name, list[str]] = field(factory=dict)
    make: dict[Name, list[str]] = field(factory=dict)
    new: dict[str, list[tuple[Parts, Parts]]] = field(factory=dict)
    rules: dict[str, list[PlannedRule]] = field(factory=dict)
    retried: set[str] = field(factory=set)
    """Chains that differ only by rules which nft has refused before."""

    @property
    def only_elements(self) -> bool:
        """Whether what is there afterwards follows from what was there, without a look."""
        return not (self.clear or self.remove or self.make or self.rules)

    @property
    def parts(self) -> list[Part]:
        """What may be refused by itself, each after what it needs. Rules that stand in for others are not here."""
        made: list[Part] = sorted(self.make, key=lambda name: name[0] != "set")
        elements = [element_part(name, key) for name, found in self.new.items() for key, _ in found]
        rules = [rule_part(chain, rule.text) for chain, found in self.rules.items() for rule in found]
        # Jumps first: the kernel checks a rule against the hooks from which its chain is reached.
        rules.sort(key=lambda part: not nfttext.is_jump(part[2]))
        return list(dict.fromkeys((*made, *elements, *rules)))

    def stand_ins(self, refused: Collection[Part]) -> list[Part]:
        """The rules that come in place of refused ones."""
        found = [
            rule_part(chain, rule.otherwise)
            for chain, rules in self.rules.items()
            for rule in rules
            if rule.otherwise and rule_part(chain, rule.text) in refused
        ]
        return list(dict.fromkeys(found))

    def trial(self, context: Context, only: Collection[Part]) -> list[str]:
        """Commands that make the table in an empty namespace, with some parts only."""
        commands = [f"add table {WHOLE}", *context.things, *context.elements]
        commands += [command for name, made in self.make.items() if name in only for command in made]
        for name, found in self.new.items():
            if ("set", name) not in self.make or ("set", name) in only:
                some = [(key, value) for key, value in found if element_part(name, key) in only]
                commands += nfttext.elements("add", name, some)
        commands += context.rules
        for chain, rules in self.rules.items():
            if ("chain", chain) not in self.make or ("chain", chain) in only:
                texts = [text for rule in rules for text in rule.texts() if rule_part(chain, text) in only]
                commands += [nfttext.add_rule(chain, text) for text in texts]
        return commands

    def commands(self, refused: Collection[Part] = ()) -> list[str]:
        """All commands in order, without what was refused. A chain or set that can't be made stays as it is."""
        commands = list(self._commands(refused))
        return [f"add table {WHOLE}", *commands] if commands else []

    def _commands(self, refused: Collection[Part]) -> Iterator[str]:
        rules = {chain: self._texts(chain, refused) for chain in self.rules}
        unchanged = {chain for chain in self.retried if self._is_there(chain, rules.get(chain, []))}
        for thing, commands in self.clear.items():
            if thing not in refused and thing[1] not in unchanged:
                yield from commands
        for name, keys in self.gone.items():
            if ("set", name) not in refused:
                # An element whose new value is refused keeps the old one.
                some: list[tuple[Parts, Parts]] = [
                    (key, ()) for key in keys if element_part(name, key) not in refused
                ]
                yield from nfttext.elements("delete", name, some)
        for stage in (self.remove, self.make):
            for thing, commands in stage.items():
                if thing not in refused:
                    yield from commands
        for name, found in self.new.items():
            if ("set", name) not in refused:
                added = [(key, value) for key, value in found if element_part(name, key) not in refused]
                yield from nfttext.elements("add", name, added)
        for chain, texts in rules.items():
            if ("chain", chain) not in refused and chain not in unchanged:
                yield from (nfttext.add_rule(chain, text) for text in texts)

    def _texts(self, chain: str, refused: Collection[Part]) -> list[str]:
        choices = ([t for t in rule.texts() if rule_part(chain, t) not in refused] for rule in self.rules[chain])
        return [texts[0] for texts in choices if texts]

    def _is_there(self, chain: str, texts: Sequence[str]) -> bool:
        return [nfttext.signature(text) for text in texts] == [name for name, _ in self.base.rules.get(chain, ())]
