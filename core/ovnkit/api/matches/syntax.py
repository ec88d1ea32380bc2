"""Whether OVN can read a match: its expression language, as `lib/lex.c` and `lib/expr.c` of OVN parse it.

ovn-controller leaves out a flow whose match it can't parse and says so only in its log. `fault` finds out before
a row is written. Names of sets count as known: they are references (see `ovnkit.api.matches`).

The symbols are those of OVN 26.03; a symbol that an older OVN lacks is not noticed here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import define

from ovnkit.api.matches.symbols import SYMBOLS, Level, Symbol
from ovnkit.api.matches.tokens import Integer, Named, SyntaxFault, Text, Token, Word, tokens

__all__ = [
    "fault",
]

MAX_DEPTH = 90
"""Nested parentheses. OVN takes 100; northd puts a match into parentheses of its own."""


def fault(text: str) -> str:
    """Why OVN can't parse a match; empty when it can. Answers are remembered, by text without the names in it."""
    return _fault(_NAME.sub(r"\1a", text))


_NAME = re.compile(r"([$@])[A-Za-z_][A-Za-z_.0-9]*")


@lru_cache(maxsize=16384)
def _fault(text: str) -> str:
    try:
        parser = _Parser(list(tokens(text)))
        parser.expression()
        parser.end()
    except SyntaxFault as error:
        return str(error)
    return ""


# -- expressions ------------------------------------------------------------------------------------------------

_RELATIONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@define(eq=False)
class _Field:
    """A field or a part of one, `bits` wide; 0 for a string."""

    symbol: Symbol
    bits: int


@define(eq=False)
class _Constants:
    """What a field is compared with."""

    items: list[Integer | Named | Text]
    braces: bool = False

    @property
    def are_strings(self) -> bool:
        """Whether they are strings (or ports of a group), not numbers."""
        return _is_string(self.items[0])


def _is_string(item: Integer | Named | Text) -> bool:
    return isinstance(item, Text) or (isinstance(item, Named) and item.sign == "@")


@define(eq=False)
class _Parser:
    """Recursive descent over the tokens, in the order of OVN's own."""

    tokens: list[Token]
    at: int = 0
    depth: int = 0
    negated: bool = False

    def end(self) -> None:
        """Nothing may follow."""
        if self.at < len(self.tokens):
            raise SyntaxFault(f"{self._shown()} where the match should end")

    def expression(self) -> None:
        """Terms joined by `&&`, or by `||`."""
        self._negation()
        operator = self._next
        if operator not in ("&&", "||"):
            return
        while self._take(operator):
            self._negation()
        if self._next in ("&&", "||"):
            raise SyntaxFault("&& and || must be parenthesized when used together")

    @property
    def _next(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self, sign: Token) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == sign:
            self.at += 1
            return True
        return False

    def _shown(self) -> str:
        token = self._next
        if isinstance(token, str):
            return f"`{token}'" if token else "the end"
        return f"`{token.text}'" if isinstance(token, Word) else "a constant"

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise SyntaxFault(f"{self._shown()} where `{sign}' is expected")

    def _negation(self) -> None:
        if not self._take("!"):
            self._primary()
            return
        self.negated = not self.negated
        atomic = self._primary()
        self.negated = not self.negated
        if not atomic:
            raise SyntaxFault("parentheses are missing around the operand of !")

    def _primary(self) -> bool:
        """One comparison, or an expression in parentheses; whether `!` may stand before it."""
        if self._take("("):
            if self.depth >= MAX_DEPTH:
                raise SyntaxFault("parentheses are nested too deeply")
            self.depth += 1
            self.expression()
            self.depth -= 1
            self._expect(")")
            return True
        if isinstance(self._next, Word):
            return self._from_word(self._next)
        return self._from_constants()

    def _from_word(self, word: Word) -> bool:
        if self.at + 1 < len(self.tokens) and self.tokens[self.at + 1] == "(":
            if word.text != "is_chassis_resident":
                raise SyntaxFault(f"there is no function {word.text}")
            self.at += 2
            if not isinstance(self._next, Text):
                raise SyntaxFault(f"{self._shown()} where a string is expected")
            self.at += 1
            self._expect(")")
            return True
        found = self._field()
        relation = self._relation_or_none()
        if relation is not None:
            self._compare(found, relation, self._constants())
            return False
        if not found.bits or self._next == "=":
            raise SyntaxFault(f"{self._shown()} where a relational operator is expected")
        if found.bits > 1 and not self.negated:
            raise SyntaxFault(f"{word.text} has more than one bit: it needs an explicit `!= 0'")
        self._compare(found, "!=", _Constants([Integer(0, 0)]))
        return True

    def _from_constants(self) -> bool:
        first = self._constants()
        only = first.items[0]
        is_boolean = isinstance(only, Integer) and only.decimal and only.value <= 1 and not first.braces
        if is_boolean and self._next not in _RELATIONS:
            return True
        relation = self._relation()
        found = self._field()
        if self._next not in _RELATIONS:
            self._compare(found, _TURNED[relation], first)
            return False
        second_relation = self._relation()
        second = self._constants()
        if relation[0] not in "<>" or relation[0] != second_relation[0]:
            raise SyntaxFault("a range has the form x < field < y, or x > field > y")
        self._compare(found, _TURNED[relation], first)
        self._compare(found, second_relation, second)
        return False

    def _relation_or_none(self) -> str | None:
        token = self._next
        if isinstance(token, str) and token in _RELATIONS:
            self.at += 1
            return token
        return None

    def _relation(self) -> str:
        relation = self._relation_or_none()
        if relation is None:
            raise SyntaxFault(f"{self._shown()} where a relational operator is expected")
        return relation

    def _field(self) -> _Field:
        token = self._next
        symbol = SYMBOLS.get(token.text) if isinstance(token, Word) else None
        if symbol is None:
            raise SyntaxFault(f"{self._shown()} where the name of a field is expected")
        self.at += 1
        if not self._take("["):
            return _Field(symbol, symbol.width)
        if not symbol.width:
            raise SyntaxFault(f"{symbol.name} is a string and has no bits")
        low = high = self._small()
        if self._take(".."):
            high = self._small()
        self._expect("]")
        if not low <= high < symbol.width:
            raise SyntaxFault(f"{symbol.name} has no bits {low} to {high}")
        if symbol.level is Level.NOMINAL and (low, high) != (0, symbol.width - 1):
            raise SyntaxFault(f"parts of {symbol.name} can't be compared")
        return _Field(symbol, high - low + 1)

    def _small(self) -> int:
        token = self._next
        if not isinstance(token, Integer) or not token.decimal or token.value > 0x7FFFFFFF:
            raise SyntaxFault(f"{self._shown()} where the number of a bit is expected")
        self.at += 1
        return token.value

    def _constants(self) -> _Constants:
        if not self._take("{"):
            return _Constants([self._constant()])
        found = [self._constant()]
        self._take(",")
        while not self._take("}"):
            found.append(self._constant())
            if _is_string(found[-1]) != _is_string(found[0]):
                raise SyntaxFault("strings and numbers can't be in one set")
            self._take(",")
        return _Constants(found, braces=True)

    def _constant(self) -> Integer | Named | Text:
        token = self._next
        if not isinstance(token, (Integer, Named, Text)):
            raise SyntaxFault(f"{self._shown()} where a constant is expected")
        self.at += 1
        return token

    def _compare(self, found: _Field, relation: str, constants: _Constants) -> None:
        """Types, widths and operators must fit."""
        symbol = found.symbol
        if constants.are_strings != (not symbol.width):
            raise SyntaxFault(f"{symbol.name} is a {'number' if symbol.width else 'string'}")
        numbers = [item for item in constants.items if isinstance(item, Integer)]
        for number in numbers:
            if number.width > symbol.width:
                raise SyntaxFault(f"a constant of {number.width} bits is too wide for {symbol.name}")
        if relation not in ("==", "!="):
            named = any(isinstance(item, Named) for item in constants.items)
            if constants.braces or named or symbol.level is not Level.ORDINAL or numbers[0].masked:
                raise SyntaxFault(f"only == and != can compare {symbol.name} with this")
        if symbol.level is not Level.NOMINAL:
            return
        equal = (relation == "==") != self.negated
        if not symbol.predicate:
            if not equal:
                raise SyntaxFault(f"{symbol.name} may only be tested for equality, nested `!' counted")
        elif any(bool(number.value & 1) != equal for number in numbers):
            raise SyntaxFault(f"{symbol.name} may only be tested positively")
