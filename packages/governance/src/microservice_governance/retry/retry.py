"""Retry: call again what failed and may succeed, with growing, spread-out waits and in time."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, cast

from microservice_governance.events import CallRetried
from microservice_governance.policy import Policy, is_async, refuse_coroutine
from microservice_governance.testing_mode import async_sleep
from microservice_governance.testing_mode import rng as default_rng
from microservice_governance.testing_mode import sleep as default_sleep
from microservice_governance.timeouts.deadline import deadline

from .config import RetryConfig
from .retry_block import RetryBlock

if TYPE_CHECKING:
    from .budget import RetryBudget

__all__ = ("Retry", "RetryConfig")

P = ParamSpec("P")
R = TypeVar("R")

Sleep = Callable[[float], "Awaitable[None] | None"]

_SPREAD = 0.1  # those told the same Retry-After come back within a tenth of it


class Retry(Policy):
    """Retry what failed with one of `config.on`; what else is raised comes out at once.

    The last error comes out unchanged. A cancellation is never retried, and no retry begins that
    would have to wait past the `deadline` in force.

    Args:
        name: for events.
        budget: shared by all calls to a service; when it is spent, the error comes out.
        sleep: takes seconds; may be plain or async (then only `arun` works). By default
            `time.sleep` and `asyncio.sleep`.
        rng: where jitter comes from; by default a generator of this package.
        clock: the deadline's clock.
    """

    kind = "retry"

    def __init__(
        self,
        config: RetryConfig,
        *,
        name: str = "retry",
        budget: RetryBudget | None = None,
        sleep: Sleep | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.name = name
        self.budget = budget
        self._sleep: Sleep = sleep or default_sleep
        self._async_sleep: Sleep = sleep or async_sleep
        self._random = (default_rng if rng is None else rng).random
        self._clock = clock

    def reconfigure(self, config: RetryConfig) -> None:
        """Retry calls that begin from now on as that says."""
        self.config = config

    def check_sync(self, fn: Callable[..., object]) -> None:
        """A plain function cannot await an async sleep.

        Raises:
            TypeError: `sleep` is a coroutine function.
        """
        if is_async(self._sleep):
            raise TypeError(
                f"retry {self.name!r} has an async sleep, which a plain function cannot await; "
                "give it a plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` until it succeeds or may not be retried any more.

        Raises:
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        if self.budget is not None:
            self.budget.record_call()
        calls = _Calls[R](self, args, kwargs)
        self._try(fn, calls)
        return self._again(fn, calls)

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` until it succeeds or may not be retried any more."""
        if self.budget is not None:
            self.budget.record_call()
        config = self.config
        try:
            result = await fn(*args, **kwargs)
        except config.on as error:
            calls = _Calls[R](self, args, kwargs, error)
        else:
            if config.retry_result is None:
                return result
            calls = _Calls(self, args, kwargs, None, result)
        return await self._async_again(fn, calls)

    def attempts(self) -> RetryBlock:
        """The block form; in an async function `async for`, in a plain one `for`.

        ```
        async for attempt in retry.attempts():
            with attempt:
                await fetch()
        ```
        """
        return RetryBlock(self)

    def snapshot(self) -> dict[str, object]:
        """How often it tries, and what is left of the budget."""
        budget = None if self.budget is None else self.budget.available
        return {**super().snapshot(), "attempts": self.config.attempts, "budget": budget}

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """`fn` under the policy, with the way of a success written out."""

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.budget is not None:
                self.budget.record_call()
            config = self.config
            try:
                result = fn(*args, **kwargs)
            except config.on as error:
                calls = _Calls[R](self, args, kwargs, error)
            else:
                if isinstance(result, CoroutineType):
                    refuse_coroutine(result)
                if config.retry_result is None:
                    return result
                calls = _Calls(self, args, kwargs, None, result)
            return self._again(fn, calls)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under the policy, with the way of a success written out."""

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.budget is not None:
                self.budget.record_call()
            config = self.config
            try:
                result = await fn(*args, **kwargs)
            except config.on as error:
                calls = _Calls[R](self, args, kwargs, error)
            else:
                if config.retry_result is None:
                    return result
                calls = _Calls(self, args, kwargs, None, result)
            return await self._async_again(fn, calls)

        return guarded

    def wait_after(
        self,
        error: Exception | None,
        attempt: int,
        previous: float = 0.0,
        *,
        config: RetryConfig | None = None,
    ) -> float | None:
        """Seconds to wait before the next attempt, or None if there may be none.

        For those who make the attempts themselves. A wait spends one retry of the budget.

        Args:
            error: what the attempt failed with; None if its result is what is to be retried.
            attempt: which one it was, from 1.
            previous: the wait before that attempt; 0 before the first.
            config: what holds for the call; what holds now by default.
        """
        config = config or self.config
        if attempt >= config.attempts or not (error is None or isinstance(error, config.on)):
            return None
        wait = config.wait_seconds(error, attempt, previous, self._random)
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, int | float) and asked > 0:
            if asked > config.max_retry_after_seconds:
                return None
            # Never earlier than asked, and not everybody at the same moment.
            wait = max(wait, asked * (1 + _SPREAD * self._random()))
        if self._too_late(wait) or not (self.budget is None or self.budget.try_spend()):
            return None
        if self._subscribers:
            self._emit(CallRetried(self.kind, self.name, attempt, wait, error))
        return wait

    def pause(self, seconds: float) -> None:
        """Sleep as a plain function does."""
        slept = self._sleep(seconds)
        if isinstance(slept, CoroutineType):
            refuse_coroutine(slept)

    async def async_pause(self, seconds: float) -> None:
        """Sleep as an async function does."""
        slept = self._async_sleep(seconds)
        if slept is not None:
            await slept

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self.config.on)
        return f"Retry({self.name!r}, {self.config.attempts} attempts on {kinds})"

    def _too_late(self, wait: float) -> bool:
        left = deadline.remaining(self._clock)
        return left is not None and wait >= left

    def _again(self, fn: Callable[..., R], calls: _Calls[R]) -> R:
        while (wait := calls.next_wait()) is not None:
            self.pause(wait)
            self._try(fn, calls)
        return calls.outcome()

    def _try(self, fn: Callable[..., R], calls: _Calls[R]) -> None:
        calls.error = None
        try:
            calls.result = fn(*calls.args, **calls.kwargs)
        except calls.config.on as error:
            calls.error = error
        if isinstance(calls.result, CoroutineType):
            refuse_coroutine(calls.result)

    async def _async_again(self, fn: Callable[..., Awaitable[R]], calls: _Calls[R]) -> R:
        while (wait := calls.next_wait()) is not None:
            await self.async_pause(wait)
            calls.error = None
            try:
                calls.result = await fn(*calls.args, **calls.kwargs)
            except calls.config.on as error:
                calls.error = error
        return calls.outcome()


class _Calls(Generic[R]):
    """The attempts of one call: with what, under which config, and how the last one ended."""

    __slots__ = ("args", "attempt", "config", "error", "kwargs", "result", "retry", "waited")

    def __init__(
        self,
        retry: Retry,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        error: Exception | None = None,
        result: R | None = None,
    ) -> None:
        self.retry = retry
        self.config = retry.config
        self.args = args
        self.kwargs = kwargs
        self.error = error
        self.result = result
        self.attempt = 0
        self.waited = 0.0

    def next_wait(self) -> float | None:
        """Seconds until the next attempt; None when the last one stands."""
        self.attempt += 1
        if not self._is_bad() or not self.config.may_repeat(self.error, self.args, self.kwargs):
            return None
        wait = self.retry.wait_after(self.error, self.attempt, self.waited, config=self.config)
        self.waited = wait or 0.0
        return wait

    def outcome(self) -> R:
        """The last result, or the last error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.result)

    def _is_bad(self) -> bool:
        judge = self.config.retry_result
        return self.error is not None or (judge is not None and judge(self.result))
