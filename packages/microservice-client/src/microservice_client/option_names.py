"""Keyword arguments that are not known are refused, with the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = ("unknown_argument_error",)


def unknown_argument_error(
    function: str, names: Iterable[str], parameters: frozenset[str], advice: Mapping[str, str]
) -> TypeError:
    """Return the error for arguments that a function does not have.

    Args:
        function: what was called.
        names: those that were passed.
        parameters: those that it has.
        advice: what to do instead, for names of which that is known.
    """
    name = min(set(names) - parameters)
    similar = get_close_matches(name, parameters, n=1)
    if name in advice:
        suggestion = advice[name]
    elif similar:
        suggestion = f"did you mean {similar[0]!r}?"
    else:
        suggestion = f"it has {', '.join(sorted(parameters))}"
    return TypeError(f"{function} has no argument {name!r}; {suggestion}")
