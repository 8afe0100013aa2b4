"""Exponential back-off and jitter: how long to wait after the n-th failure in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

__all__ = ("Jitter", "backoff_seconds", "jittered")

Jitter = Literal["full", "equal", "none"]
"""The random part of a wait: all of it (`full`), its upper half (`equal`), or nothing (`none`)."""


def backoff_seconds(
    failures: int, *, initial_seconds: float, max_seconds: float, multiplier: float = 2.0
) -> float:
    """Seconds to wait after the n-th failure in a row, before jitter.

    Args:
        failures: how many attempts have failed in a row, from 1.
        initial_seconds: the wait after the first failure.
        max_seconds: no wait is longer.
        multiplier: each wait is this many times the previous one.
    """
    try:
        return min(max_seconds, initial_seconds * multiplier ** (failures - 1))
    except OverflowError:  # the power no longer fits a float: far beyond any maximum
        return max_seconds


def jittered(seconds: float, jitter: Jitter, random: Callable[[], float]) -> float:
    """A random part of the wait, so that many clients do not retry at the same moment.

    Apply it last, after every cap: clients that wait the longest stay spread, too.

    Source: Exponential Backoff And Jitter, AWS Architecture Blog (2015).

    Args:
        seconds: the wait before jitter.
        jitter: `full` returns 0 to `seconds`, `equal` half of it to `seconds`, `none` all of it.
        random: a number from 0 to 1, as `random.random`.
    """
    match jitter:
        case "full":
            return seconds * random()
        case "equal":
            return seconds * (1 + random()) / 2
        case "none":
            return seconds
