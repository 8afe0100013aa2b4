"""Waits for a condition, with a deadline, instead of sleeping for a fixed time."""

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
    """Poll until a state is accepted, and return it.

    Args:
        probe: reads the state.
        accept: predicate on a state.
        within_seconds: how long to poll.
        every_seconds: time between two polls.

    Raises:
        AssertionError: no state was accepted in time; the message shows the last one.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while True:
        state = await probe()
        if accept(state):
            return state
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_seconds} s; the last state was {state!r}")
        await asyncio.sleep(every_seconds)


class Recorder(Generic[StateT]):
    """A listener that records the states it receives, and on which a test can wait.

    Attributes:
        states: every state, oldest first.
    """

    def __init__(self) -> None:
        self.states: list[StateT] = []
        self._changed = asyncio.Event()

    def __call__(self, state: StateT) -> None:
        self.states.append(state)
        self._changed.set()

    async def wait_for(
        self, accept: Callable[[StateT], bool], *, within_seconds: float = 10.0
    ) -> StateT:
        """Wait until the newest state is accepted, and return it.

        Raises:
            AssertionError: it was not accepted in time; the message shows every state.
        """
        try:
            async with asyncio.timeout(within_seconds):
                while not (self.states and accept(self.states[-1])):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {within_seconds} s; received: {self.states!r}"
            ) from None
        return self.states[-1]
