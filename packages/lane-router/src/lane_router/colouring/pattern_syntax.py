"""The syntax of regular expressions without look-around and references to groups."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ("Choice", "Part", "Repetition", "Sequence", "Symbol", "parse_pattern")

_MAX_POSITIONS = 256
_MAX_NESTING = 32
_MAX_CHARACTERS = 1024

_GROUP = re.compile(r"\((?:\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>|(?!\?))")
_COUNT = re.compile(r"\{(?=[0-9,])(?P<least>[0-9]*)(?P<range>,(?P<most>[0-9]*))?\}")
_ESCAPE = re.compile(
    r"\\(?:[dDwWsSnrtfva]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^A-Za-z0-9])", re.DOTALL
)
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Symbol:
    """One character of a kind; `text` is a regular expression for exactly that."""

    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after another."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several parts."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A part several times; `most` is None without an upper bound."""

    part: Part
    least: int
    most: int | None


Part = Symbol | Sequence | Choice | Repetition


def parse_pattern(pattern: str) -> tuple[Part, re.RegexFlag]:
    """The parts of a regular expression for a whole text, and its flags.

    Raises:
        ValueError: with the reason and where it is.
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise ValueError(f"it has more than {_MAX_CHARACTERS} characters")
    flags = re.RegexFlag(0)
    start = 0
    if pattern.startswith("(?i)"):
        flags, start = re.IGNORECASE, len("(?i)")
    parser = _Parser(pattern, start)
    part = parser.parse_choice(0)
    if parser.position < len(pattern):
        raise parser.build_error("there is no '(' for this ')'")
    if count_positions(part) > _MAX_POSITIONS:
        raise ValueError(f"written out, it is longer than {_MAX_POSITIONS} characters and classes")
    return part, flags


def count_positions(part: Part) -> int:
    """How many symbols the part has when its repetitions are written out."""
    if isinstance(part, Symbol):
        return 1
    if isinstance(part, Repetition):
        # Without an upper bound, one more copy stands for all further ones.
        copies = part.least + 1 if part.most is None else part.most
        return max(1, count_positions(part.part)) * copies
    return sum(map(count_positions, part.parts))


class _Parser:
    def __init__(self, pattern: str, position: int) -> None:
        self._pattern = pattern
        self.position = position

    def build_error(self, reason: str) -> ValueError:
        return ValueError(f"{reason} at character {self.position + 1}")

    def parse_choice(self, nesting: int) -> Part:
        if nesting > _MAX_NESTING:
            raise self.build_error(f"groups are nested deeper than {_MAX_NESTING}")
        parts = [self._parse_sequence(nesting)]
        while self._take("|"):
            parts.append(self._parse_sequence(nesting))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _parse_sequence(self, nesting: int) -> Part:
        parts: list[Part] = []
        if nesting == 0:
            self._take("^")
        while self.position < len(self._pattern) and self._next() not in {"|", ")"}:
            if nesting == 0 and self._take_end():
                break
            part = self._parse_symbol(nesting)
            parts.append(self._parse_quantifiers(part))
        return Sequence(tuple(parts))

    def _parse_symbol(self, nesting: int) -> Part:
        character = self._next()
        if character == "(":
            return self._parse_group(nesting)
        if character == "[":
            return self._parse_class()
        if character == "\\":
            text = self._match(_ESCAPE)
            if text is None:
                raise self.build_error("this escape is not supported")
            return Symbol(text)
        if character in "*+?" or _COUNT.match(self._pattern, self.position):
            raise self.build_error("there is nothing to repeat")
        if character in "^$":
            raise self.build_error("^ and $ are supported at the ends only")
        self.position += 1
        return Symbol("." if character == "." else re.escape(character))

    def _parse_group(self, nesting: int) -> Part:
        if self._match(_GROUP) is None:
            raise self.build_error("only the groups (...), (?:...) and (?P<name>...) are supported")
        part = self.parse_choice(nesting + 1)
        if not self._take(")"):
            raise self.build_error("there is no ')' for a '('")
        return part

    def _parse_class(self) -> Part:
        text = self._match(_CLASS)
        if text is None:
            raise self.build_error("there is no ']' for this '['")
        try:
            re.compile(text)
        except (re.error, Warning) as error:
            raise self.build_error(f"{error} in the class") from None
        return Symbol(text)

    def _parse_quantifiers(self, part: Part) -> Part:
        bounds = self._parse_quantifier()
        if bounds is None:
            return part
        self._take("?")  # lazy: which match is found first is of no interest
        if self.position < len(self._pattern) and (
            self._next() in "*+?" or _COUNT.match(self._pattern, self.position)
        ):
            raise self.build_error("a quantifier of a quantifier is not supported")
        return Repetition(part, *bounds)

    def _parse_quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        count = _COUNT.match(self._pattern, self.position)
        if count is None:
            return None
        least = int(count["least"][:9] or 0)
        most: int | None = least
        if count["range"] is not None:
            most = int(count["most"][:9]) if count["most"] else None
        if most is not None and most < least:
            raise self.build_error("the least number is above the greatest")
        self.position = count.end()
        return least, most

    def _take_end(self) -> bool:
        at_end = self._pattern[self.position + 1 : self.position + 2] in {"", "|"}
        return at_end and self._take("$")

    def _take(self, character: str) -> bool:
        is_next = self._pattern.startswith(character, self.position)
        self.position += is_next
        return is_next

    def _next(self) -> str:
        return self._pattern[self.position]

    def _match(self, expression: re.Pattern[str]) -> str | None:
        match = expression.match(self._pattern, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]
