"""Regular expressions that take linear time: the text is read once, whatever the expression is.

An expression is translated to an automaton of at most 256 positions (Glushkov's construction), and
for each character of a text all positions move on at once. So nothing is tried twice: a text of n
characters takes at most 256 * n moves, where the standard library's `re` may take 2 ** n.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .pattern_syntax import Choice, Part, Repetition, Sequence, Symbol, parse_pattern

__all__ = ("LinearPattern",)

_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Fragment:
    """A part of the automaton; sets of positions are the bits of integers."""

    first: int
    last: int
    nullable: bool


_NOTHING = _Fragment(0, 0, nullable=True)


@dataclass(slots=True)
class _Automaton:
    symbols: list[str] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)

    def build(self, part: Part) -> _Fragment:
        """Add the positions of the part."""
        if isinstance(part, Symbol):
            self.symbols.append(part.text)
            self.follow.append(0)
            bit = 1 << (len(self.symbols) - 1)
            return _Fragment(bit, bit, nullable=False)
        if isinstance(part, Choice):
            return self._build_choice(part)
        if isinstance(part, Sequence):
            return self._join(part.parts)
        return self._build_repetition(part)

    def _build_choice(self, choice: Choice) -> _Fragment:
        fragments = [self.build(part) for part in choice.parts]
        first = last = 0
        for fragment in fragments:
            first |= fragment.first
            last |= fragment.last
        return _Fragment(first, last, any(fragment.nullable for fragment in fragments))

    def _join(self, parts: tuple[Part, ...]) -> _Fragment:
        joined = _NOTHING
        for part in parts:
            joined = self._connect(joined, self.build(part))
        return joined

    def _build_repetition(self, repetition: Repetition) -> _Fragment:
        part, most = repetition.part, repetition.most
        joined = self._join((part,) * repetition.least)
        if most is None:
            loop = self.build(part)
            self._add_moves(loop, loop)
            return self._connect(joined, _Fragment(loop.first, loop.last, nullable=True))
        for _ in range(most - repetition.least):
            once = self.build(part)
            joined = self._connect(joined, _Fragment(once.first, once.last, nullable=True))
        return joined

    def _connect(self, left: _Fragment, right: _Fragment) -> _Fragment:
        self._add_moves(left, right)
        first = left.first | (right.first if left.nullable else 0)
        last = right.last | (left.last if right.nullable else 0)
        return _Fragment(first, last, left.nullable and right.nullable)

    def _add_moves(self, left: _Fragment, right: _Fragment) -> None:
        for position in _iter_bits(left.last):
            self.follow[position] |= right.first


class LinearPattern:
    """A regular expression for a whole text; matching is safe from several threads.

    It is the syntax of the standard library's `re` without what needs going back: characters,
    classes, `.`, groups, `|`, and the quantifiers `*`, `+`, `?` and `{m,n}`, greedy or lazy; `^`
    and `$` at the ends, `(?i)` in front.

    Raises:
        ValueError: the expression is no such one, or has more than 256 positions.
    """

    __slots__ = ("_follow", "_fragment", "_masks", "_moves", "_symbols")

    def __init__(self, pattern: str) -> None:
        part, flags = parse_pattern(pattern)
        automaton = _Automaton()
        self._fragment = automaton.build(part)
        self._follow = automaton.follow
        positions: dict[str, int] = {}
        for position, symbol in enumerate(automaton.symbols):
            positions[symbol] = positions.get(symbol, 0) | 1 << position
        self._symbols = [(re.compile(symbol, flags), bits) for symbol, bits in positions.items()]
        self._masks: dict[str, int] = {}
        self._moves: dict[tuple[int, str], tuple[int, bool]] = {}

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        positions, accepted = self._fragment.first, self._fragment.nullable
        for character in text:
            move = self._moves.get((positions, character))
            if move is None:
                move = self._compute_move(positions, character)
            positions, accepted = move
            if not positions and not accepted:
                return False
        return accepted

    def _compute_move(self, positions: int, character: str) -> tuple[int, bool]:
        matched = positions & self._find_mask(character)
        following = 0
        for position in _iter_bits(matched):
            following |= self._follow[position]
        move = following, bool(matched & self._fragment.last)
        # Clients choose the texts, so what is remembered has a bound.
        if len(self._moves) >= _MAX_REMEMBERED:
            self._moves.clear()
        self._moves[positions, character] = move
        return move

    def _find_mask(self, character: str) -> int:
        """The positions whose symbol the character is."""
        mask = self._masks.get(character)
        if mask is None:
            mask = 0
            for symbol, positions in self._symbols:
                if symbol.fullmatch(character):
                    mask |= positions
            if len(self._masks) >= _MAX_REMEMBERED:
                self._masks.clear()
            self._masks[character] = mask
        return mask


def _iter_bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
