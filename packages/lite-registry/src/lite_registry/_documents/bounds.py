# Copied from packages/microservice-core/src/microservice_core/_documents/bounds.py by scripts/copy_shared.py: change it there.
"""What a document may hold at most, and the error for one that breaks a rule."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lite_registry.errors import DocumentError

__all__ = ("DEPTH_RULE", "MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "Document")

MAX_BYTES = 1024 * 1024
MAX_VALUES = 100_000
MAX_DEPTH = 64
_MAX_DIGITS = 100
_MAX_KEY_CHARACTERS = 1024

DEPTH_RULE = f"must be nested at most {MAX_DEPTH} levels deep"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """One document while it is read.

    Attributes:
        name: what errors call it.
        max_values: the most keys and values, together.
    """

    name: str
    text: str
    max_values: int

    def build_error(self, rule: str, *, line: int | None = None) -> DocumentError:
        """The error that says which rule the document breaks, and in which line."""
        return DocumentError(self.name, rule, line)

    def find_line(self, offset: int) -> int:
        """The number of the line, from 1, with the character at that offset."""
        return self.text.count("\n", 0, offset) + 1

    def check_depth(self, depth: int, line: int | None = None) -> None:
        """Refuse what is nested too deep to be walked recursively."""
        if depth > MAX_DEPTH:
            raise self.build_error(DEPTH_RULE, line=line)

    def check_count(self, values: int, line: int | None = None) -> None:
        """Refuse more keys and values than allowed."""
        if values > self.max_values:
            rule = f"must have at most {self.max_values} keys and values, aliases included"
            raise self.build_error(rule, line=line)

    def check_key(self, key: str, line: int | None = None) -> None:
        """Refuse a key that is too long, or that cannot be encoded."""
        if len(key) > _MAX_KEY_CHARACTERS:
            rule = f"must have keys of at most {_MAX_KEY_CHARACTERS} characters"
            raise self.build_error(rule, line=line)
        self.check_text(key, line)

    def check_text(self, text: str, line: int | None = None) -> None:
        """Refuse a text that cannot be encoded: it holds half of a surrogate pair."""
        if _LONE_SURROGATE.search(text):
            raise self.build_error("must have no half of a surrogate pair in a text", line=line)

    def check_digits(self, literal: str, line: int | None = None) -> None:
        """Refuse the literal of a number that has too many digits."""
        if len(literal.lstrip("+-")) > _MAX_DIGITS:
            rule = f"must have numbers of at most {_MAX_DIGITS} digits"
            raise self.build_error(rule, line=line)

    def check_number(self, number: float, line: int | None = None, *, finite: bool = True) -> None:
        """Refuse an integer with too many digits, and a number too large for a float."""
        if isinstance(number, int):
            if abs(number) >= 10**_MAX_DIGITS:
                self.check_digits("0" * (_MAX_DIGITS + 1), line)
        elif finite and math.isinf(number):
            raise self.build_error("must have numbers that fit into 64 bits", line=line)
