"""Whether OVN can read a match: its expression language, as `lib/lex.c` and `lib/expr.c` of OVN parse it.

ovn-controller leaves out a flow whose match it can't parse and says so only in its log. `fault` finds out before
a row is written. Names of sets count as known: they are references (see `ovnkit.api.matches`).

The symbols are those of OVN 26.03; a symbol that an older OVN lacks is not noticed here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from functools import lru_cache

from attrs import define

from ovnkit.api.matchsymbols import SYMBOLS, Level, Symbol

MAX_DEPTH = 90
"""Nested parentheses. OVN takes 100; northd puts a match into parentheses of its own."""
_INET6_ADDRSTRLEN = 46


class SyntaxFault(Exception):
    """OVN would not parse this."""


def fault(text: str) -> str:
    """Why OVN can't parse a match; empty when it can. Answers are remembered, by text without the names in it."""
    return _fault(_NAME.sub(r"\1a", text))


_NAME = re.compile(r"([$@])[A-Za-z_][A-Za-z_.0-9]*")


@lru_cache(maxsize=16384)
def _fault(text: str) -> str:
    try:
        parser = _Parser(list(_tokens(text)))
        parser.expression()
        parser.end()
    except SyntaxFault as error:
        return str(error)
    return ""


# -- tokens -----------------------------------------------------------------------------------------------------


@define(eq=False)
class _Integer:
    """A number, an address or a MAC address; `width` is the least that a field needs to hold it, in bits."""

    value: int
    width: int
    decimal: bool = False
    masked: bool = False


@define(eq=False)
class _Named:
    """A set of constants by name: `$` addresses, `@` ports."""

    sign: str


@define(eq=False)
class _Text:
    """A string in quotes."""


@define(eq=False)
class _Word:
    """A name of a field or function."""

    text: str


_Token = _Integer | _Named | _Text | _Word | str
"""Operators and punctuation are texts; the end is the empty one."""

_ADDRESSES, _PORTS, _STRING = _Named("$"), _Named("@"), _Text()
_SPLIT = re.compile(
    r"""
    [ \t\n\r\v\f]+ | /\*[^\n]*?\*/                                        # space, and comments within a line
  | (?P<name>[$@][A-Za-z_.][A-Za-z_.0-9]*)
  | (?P<number>(?:[0-9]|::|[a-fA-F][0-9a-fA-F]*:)[0-9A-Za-z:]*(?:[0-9A-Za-z]|\.(?!\.))*)
  | (?P<word>[A-Za-z_][A-Za-z_.0-9]*)
  | (?P<sign>==|!=|<=|>=|<->|&&|\|\||--|\.\.|[=!<>,;:(){}\[\]-])
  | "(?P<text>(?:[^"\\]|\\["\\/bfnrt]|\\u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4})*)"
    """,
    re.VERBOSE,
)
_DECIMAL = re.compile(r"[0-9]+")
_HEXADECIMAL = re.compile(r"0[xX]([0-9a-fA-F]+)")
_MAC = re.compile(r"(?=.{17}$)[0-9a-fA-F]+(?::[0-9a-fA-F]+){5}")
_MASK = re.compile(r"[0-9A-Za-z:]*(?:[0-9A-Za-z]|\.(?!\.))*")


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        found = _SPLIT.match(text, position)
        if found is None:
            raise SyntaxFault(_strange(text, position))
        position = found.end()
        kind = found.lastgroup
        if kind == "sign":
            yield found[0]
        elif kind == "word":
            yield _Word(found[0])
        elif kind == "name":
            yield _ADDRESSES if found[0][0] == "$" else _PORTS
        elif kind == "text":
            yield _STRING
        elif kind == "number":
            form, value = _constant(found[0])
            if text.startswith("/", position):
                mask = _MASK.match(text, position + 1)
                assert mask is not None
                position = mask.end()
                yield _masked(form, value, mask[0])
            else:
                width = _WIDTHS.get(form, value.bit_length())
                yield _Integer(value, width, form == "decimal")


def _strange(text: str, position: int) -> str:
    if text.startswith("//", position):
        return "a comment to the end of the line takes in what northd adds"
    if text.startswith("/*", position):
        return "`/*' without matching `*/'"
    if text[position] == '"':
        return "a string without end, or with a wrong escape"
    if text[position] in "$@":
        return f"`{text[position]}' must be followed by an identifier"
    return f"{text[position]!r} at character {position} has no meaning"


_WIDTHS = {"ip4": 32, "ip6": 128, "mac": 48}


def _constant(text: str) -> tuple[str, int]:
    """The form of a constant, and its value."""
    if _MAC.fullmatch(text):
        return "mac", int(text.replace(":", ""), 16)
    if _DECIMAL.fullmatch(text):
        if text[0] == "0" and len(text) > 1:
            raise SyntaxFault(f"{text}: a decimal constant must not have leading zeros")
        if len(text) > 20 or int(text) >= 2**64:
            raise SyntaxFault(f"{text}: a decimal constant must be less than 2**64")
        return "decimal", int(text)
    found = _HEXADECIMAL.fullmatch(text)
    if found is not None:
        value = int(found[1], 16)
        if value.bit_length() > 128:
            raise SyntaxFault(f"{text} has more than 128 bits")
        return "hexadecimal", value
    if len(text) < _INET6_ADDRSTRLEN and not text.startswith(("0x", "0X")):
        for form, family in (("ip4", socket.AF_INET), ("ip6", socket.AF_INET6)):
            try:
                return form, int.from_bytes(socket.inet_pton(family, text))
            except OSError:
                continue
    raise SyntaxFault(f"{text} is no number and no address")


def _masked(form: str, value: int, text: str) -> _Integer:
    if not text:
        raise SyntaxFault("a mask is expected after `/'")
    mask_form, mask = _constant(text)
    if form != mask_form:
        width = {"ip4": 32, "ip6": 128}.get(form)
        if width is not None and mask_form == "decimal" and mask & 0xFFFFFFFF <= width:
            mask &= 0xFFFFFFFF
            mask = (1 << width) - (1 << (width - mask))
        elif form != "decimal" or mask_form != "hexadecimal" or value:
            raise SyntaxFault(f"/{text} is no mask for what stands before it")
    return _Integer(value & mask, mask.bit_length(), masked=True)


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

    items: list[_Integer | _Named | _Text]
    braces: bool = False

    @property
    def are_strings(self) -> bool:
        """Whether they are strings (or ports of a group), not numbers."""
        return _is_string(self.items[0])


def _is_string(item: _Integer | _Named | _Text) -> bool:
    return isinstance(item, _Text) or (isinstance(item, _Named) and item.sign == "@")


@define(eq=False)
class _Parser:
    """Recursive descent over the tokens, in the order of OVN's own."""

    tokens: list[_Token]
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
    def _next(self) -> _Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self, sign: _Token) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == sign:
            self.at += 1
            return True
        return False

    def _shown(self) -> str:
        token = self._next
        if isinstance(token, str):
            return f"`{token}'" if token else "the end"
        return f"`{token.text}'" if isinstance(token, _Word) else "a constant"

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
        if isinstance(self._next, _Word):
            return self._from_word(self._next)
        return self._from_constants()

    def _from_word(self, word: _Word) -> bool:
        if self.at + 1 < len(self.tokens) and self.tokens[self.at + 1] == "(":
            if word.text != "is_chassis_resident":
                raise SyntaxFault(f"there is no function {word.text}")
            self.at += 2
            if not isinstance(self._next, _Text):
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
        self._compare(found, "!=", _Constants([_Integer(0, 0)]))
        return True

    def _from_constants(self) -> bool:
        first = self._constants()
        only = first.items[0]
        is_boolean = isinstance(only, _Integer) and only.decimal and only.value <= 1 and not first.braces
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
        symbol = SYMBOLS.get(token.text) if isinstance(token, _Word) else None
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
        if not isinstance(token, _Integer) or not token.decimal or token.value > 0x7FFFFFFF:
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

    def _constant(self) -> _Integer | _Named | _Text:
        token = self._next
        if not isinstance(token, (_Integer, _Named, _Text)):
            raise SyntaxFault(f"{self._shown()} where a constant is expected")
        self.at += 1
        return token

    def _compare(self, found: _Field, relation: str, constants: _Constants) -> None:
        """Types, widths and operators must fit."""
        symbol = found.symbol
        if constants.are_strings != (not symbol.width):
            raise SyntaxFault(f"{symbol.name} is a {'number' if symbol.width else 'string'}")
        numbers = [item for item in constants.items if isinstance(item, _Integer)]
        for number in numbers:
            if number.width > symbol.width:
                raise SyntaxFault(f"a constant of {number.width} bits is too wide for {symbol.name}")
        if relation not in ("==", "!="):
            named = any(isinstance(item, _Named) for item in constants.items)
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
