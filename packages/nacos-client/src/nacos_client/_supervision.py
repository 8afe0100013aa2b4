# Copied from packages/microservice-core/src/microservice_core/_supervision.py by scripts/copy_shared.py: change it there.
"""An owner for background tasks: it logs an unforeseen end, restarts, and closes them all."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from ._backoff import backoff_seconds, jittered

__all__ = ("TaskSupervisor",)

logger = logging.getLogger(__name__)


class TaskSupervisor:
    """Runs background tasks for as long as it is open.

    A task whose function returns is done. One that fails is logged with its traceback and started
    again after a pause that grows from `initial_seconds` to `max_seconds`; a run longer than
    `max_seconds` starts the pauses from the beginning. `down` names the tasks that are waiting for their restart,
    which is what a readiness check wants to know.

    Use one from a single event loop. Closing it twice is fine.

    Args:
        owner: whose tasks these are, for the log.
        initial_seconds: the pause after a first failure, before jitter.
        max_seconds: no pause is longer.
        close_seconds: how long `aclose` waits for tasks that do not end when cancelled.
        listener: called without arguments after each change of `down`; must not raise.
        clock: monotonic seconds.
        sleep: waits between two runs.
        random: a number from 0 to 1, for jitter.
    """

    def __init__(
        self,
        owner: str,
        *,
        initial_seconds: float = 1.0,
        max_seconds: float = 60.0,
        close_seconds: float = 5.0,
        listener: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._owner = owner
        self._initial_seconds = initial_seconds
        self._max_seconds = max_seconds
        self._close_seconds = close_seconds
        self._listener = listener
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._down: dict[str, str] = {}
        self._closed = False

    @property
    def down(self) -> Mapping[str, str]:
        """The tasks that failed and are not running again yet, each with its exception's type."""
        return MappingProxyType(self._down)

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the tasks that have not ended, those that wait for a restart included."""
        return tuple(self._tasks)

    def start(self, name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run `work()` in a task of the running loop, and again after each failure.

        Args:
            name: which task it is, in the log and in `down`.
            work: makes the coroutine of one run.

        Raises:
            RuntimeError: closed, or a task of that name is running.
        """
        if self._closed:
            raise RuntimeError(f"{self._owner} is closed and starts no task {name!r}")
        if name in self._tasks:
            raise RuntimeError(f"{self._owner} already runs a task {name!r}; stop it first")
        task = asyncio.get_running_loop().create_task(self._supervise(name, work), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))

    def cancel(self, name: str) -> None:
        """Cancel the task without waiting for its end, which `aclose` does.

        The name is free at once. Nothing happens when there is no such task.
        """
        task = self._tasks.pop(name, None)
        if task is not None:
            self._ending.add(task)
            task.cancel()
            self._set_up(name)

    async def stop(self, name: str) -> None:
        """Cancel the task and wait for its end; nothing happens when there is none."""
        task = self._tasks.get(name)
        if task is not None:
            self.cancel(name)
            await self._wait_for_end({task})

    async def aclose(self) -> None:
        """Cancel every task and wait for their ends, for `close_seconds` at most."""
        self._closed = True
        for name in self.running:
            self.cancel(name)
        await self._wait_for_end(set(self._ending))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _supervise(
        self, name: str, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        failures = 0
        while True:
            began = self._clock()
            try:
                await work()
            except Exception as error:
                if self._clock() - began > self._max_seconds:
                    failures = 0
                failures += 1
                pause = self._pause_seconds(failures)
                logger.exception(
                    "%s: task %r failed; restarting it in %.1f s", self._owner, name, pause
                )
                self._set_down(name, type(error).__name__)
            else:
                return
            await self._sleep(pause)
            self._set_up(name)

    def _pause_seconds(self, failures: int) -> float:
        longest = backoff_seconds(
            failures, initial_seconds=self._initial_seconds, max_seconds=self._max_seconds
        )
        return jittered(longest, "equal", self._random)

    def _set_down(self, name: str, reason: str) -> None:
        self._down[name] = reason
        if self._listener is not None:
            self._listener()

    def _set_up(self, name: str) -> None:
        if self._down.pop(name, None) is not None and self._listener is not None:
            self._listener()

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if self._tasks.get(name) is task:
            del self._tasks[name]
            self._set_up(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Only what is no Exception gets here, for example SystemExit.
            logger.error("%s: task %r ended", self._owner, name, exc_info=error)

    async def _wait_for_end(self, tasks: set[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        _, stuck = await asyncio.wait(tasks, timeout=self._close_seconds)
        for task in stuck:
            logger.error("%s: task %r does not end when cancelled", self._owner, task.get_name())
