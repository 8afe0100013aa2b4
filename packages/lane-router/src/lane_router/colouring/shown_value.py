"""How an error shows a value of a rule that is wrong."""

from __future__ import annotations

import reprlib

__all__ = ("show_value",)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def show_value(value: object) -> str:
    """The value as Python writes it, cut to a line."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"a {type(value).__name__} that is too long to show"
