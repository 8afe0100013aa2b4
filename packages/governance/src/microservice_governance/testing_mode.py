"""Default waits and random numbers of the policies, and the `testing` block that fixes both."""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Self, cast

from microservice_core import call_after_fork

__all__ = ("async_sleep", "is_testing", "rng", "sleep", "testing")

rng = random.Random()
"""Default source of jitter and injected faults, for policies without an `rng` argument. Seeded again in a
forked child, outside a `testing` block; a policy's own `rng` is left to its owner."""

_open_blocks: list[testing] = []


class testing:  # noqa: N801 - reads as a statement: `with testing():`
    """Inside the block no policy of this process waits, and random choices repeat in each run.

    Retries follow at once, limiters admit calls that would have to wait their turn, injected delays
    take no time. A policy with its own `sleep` or `rng` keeps it. For tests of code that uses
    policies; a call that a policy refuses without waiting is still refused.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._saved_state: object = None

    def __enter__(self) -> Self:
        self._saved_state = rng.getstate()
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
        if self._saved_state is None:  # this is a child, forked inside the block
            rng.seed()
        else:
            rng.setstate(cast("tuple[object, ...]", self._saved_state))

    def _forget_saved_state(self) -> None:
        """Seed from the system at the end of the block: the saved state is the parent's."""
        self._saved_state = None


def _reseed() -> None:
    for block in _open_blocks:
        block._forget_saved_state()  # noqa: SLF001 - this module's own
    if not _open_blocks:
        rng.seed()


call_after_fork(_reseed)


def is_testing() -> bool:
    """Whether a `testing` block is open in this process."""
    return bool(_open_blocks)


def sleep(seconds: float) -> None:
    """Wait as `time.sleep` does, except in a `testing` block."""
    if not _open_blocks:
        time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """Wait as `asyncio.sleep` does, except in a `testing` block."""
    await asyncio.sleep(0 if _open_blocks else seconds)
