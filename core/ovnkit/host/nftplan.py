"""What one look at nftables and the wanted items make necessary: commands, in the order nft needs them."""

from __future__ import annotations

from attrs import field, frozen

from ovnkit.host.nfttext import Parts

Name = tuple[str, str]
"""A thing that is applied as a whole: ("chain", name) or ("set", name)."""


@frozen
class Plan:
    """Commands that bring things to what is wanted, in the order of nft's dependencies, by thing.

    `clear` empties, `remove` takes away, `make` makes, `fill` fills. `gone` and `new` are the elements that
    the commands delete and add, by set.
    """

    clear: dict[Name, list[str]] = field(factory=dict)
    remove: dict[Name, list[str]] = field(factory=dict)
    make: dict[Name, list[str]] = field(factory=dict)
    fill: dict[Name, list[str]] = field(factory=dict)
    gone: dict[str, list[Parts]] = field(factory=dict)
    new: dict[str, list[tuple[Parts, Parts]]] = field(factory=dict)

    @property
    def only_elements(self) -> bool:
        """Whether what is there afterwards follows from what was there, without a look."""
        return not self.remove and not self.make and all(kind == "set" for kind, _ in (*self.clear, *self.fill))

    def commands(self, only: frozenset[Name] | None = None) -> list[str]:
        """All commands in order, or those for some things."""
        stages = (self.clear, self.remove, self.make, self.fill)
        names = [(stage, name) for stage in stages for name in stage if only is None or name in only]
        return [command for stage, name in names for command in stage[name]]

    @property
    def names(self) -> list[Name]:
        """The things concerned, sets first."""
        found = {name for stage in (self.clear, self.remove, self.make, self.fill) for name in stage}
        return sorted(found, key=lambda name: (name[0] != "set", name))
