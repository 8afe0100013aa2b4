"""How policies wait and roll dice by default, and how tests keep them from both."""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Self, cast

__all__ = ("async_sleep", "is_testing", "rng", "sleep", "testing")

rng = random.Random()
"""Where jitter and drills come from unless they are given a generator of their own."""

_open_blocks: list[testing] = []


class testing:  # noqa: N801 - reads as a statement: `with testing():`
    """In the block no policy of this process waits, and all roll the same dice each time.

    Retries follow at once, limiters let those pass who would have to wait their turn, injected
    delays take no time. Policies with a `sleep` or `rng` of their own keep them. For tests of code
    that uses policies; whatever they refuse without waiting, they still refuse.

    Args:
        seed: of the dice.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._dice: object = None

    def __enter__(self) -> Self:
        self._dice = rng.getstate()
        rng.seed(self._seed)
        _open_blocks.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _open_blocks.remove(self)
        rng.setstate(cast("tuple[object, ...]", self._dice))


def is_testing() -> bool:
    """Whether a `testing` block is open."""
    return bool(_open_blocks)


def sleep(seconds: float) -> None:
    """`time.sleep`, except in `testing`."""
    if not _open_blocks:
        time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """`asyncio.sleep`, except in `testing`."""
    await asyncio.sleep(0 if _open_blocks else seconds)
