"""How policies wait and roll dice by default, and how tests keep them from both."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("async_sleep", "is_testing", "rng", "sleep", "testing")

rng = random.Random()
"""Where jitter and drills come from unless they are given a generator of their own."""

_depth = 0


@contextmanager
def testing(seed: int = 0) -> Iterator[None]:  # noqa: PT028 - no test itself
    """In the block no policy of this process waits, and all roll the same dice each time.

    Retries follow at once, limiters let those pass who would have to wait their turn, injected
    delays take no time. Policies with a `sleep` or `rng` of their own keep them. For tests of code
    that uses policies; whatever they refuse without waiting, they still refuse.

    Args:
        seed: of the dice.
    """
    global _depth  # noqa: PLW0603 - one switch for the process is the point
    state = rng.getstate()
    rng.seed(seed)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        rng.setstate(state)


def is_testing() -> bool:
    """Whether a `testing` block is open."""
    return _depth > 0


def sleep(seconds: float) -> None:
    """`time.sleep`, except in `testing`."""
    if not _depth:
        time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """`asyncio.sleep`, except in `testing`."""
    await asyncio.sleep(0 if _depth else seconds)
