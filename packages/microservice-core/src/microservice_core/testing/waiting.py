"""Waiting for a condition with a deadline instead of sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ("Recorder", "eventually")

StateT = TypeVar("StateT")


async def eventually(
    probe: Callable[[], Awaitable[StateT]],
    accept: Callable[[StateT], bool],
    *,
    within_seconds: float = 10.0,
    every_seconds: float = 0.02,
) -> StateT:
    """Ask again and again until the answer is accepted; the answer.

    Raises:
        AssertionError: not within the time; it shows the last answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while True:
        answer = await probe()
        if accept(answer):
            return answer
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_seconds} s; the last answer was {answer!r}")
        await asyncio.sleep(every_seconds)


class Recorder(Generic[StateT]):
    """A listener that remembers what it was told and can be waited on."""

    def __init__(self) -> None:
        self.states: list[StateT] = []
        self._changed = asyncio.Event()

    def __call__(self, state: StateT) -> None:
        self.states.append(state)
        self._changed.set()

    async def wait_for(
        self, accept: Callable[[StateT], bool], *, within_seconds: float = 10.0
    ) -> StateT:
        """The newest state, as soon as it is accepted.

        Raises:
            AssertionError: not within the time; it shows every state seen.
        """
        try:
            async with asyncio.timeout(within_seconds):
                while not (self.states and accept(self.states[-1])):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {within_seconds} s; seen: {self.states!r}") from None
        return self.states[-1]
