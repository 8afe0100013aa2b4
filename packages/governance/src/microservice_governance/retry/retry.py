"""Retry: repeats failed calls with growing, randomized waits, within the deadline."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Generic, ParamSpec, Self, TypeVar, cast

from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.events import CallRetried
from microservice_governance.policy import Policy, is_async
from microservice_governance.testing_mode import async_sleep
from microservice_governance.testing_mode import rng as default_rng
from microservice_governance.testing_mode import sleep as default_sleep
from microservice_governance.timeouts.deadline import deadline

from .config import RetryConfig

if TYPE_CHECKING:
    from .budget import RetryBudget

__all__ = ("Attempt", "Retry", "RetryBlock")

P = ParamSpec("P")
R = TypeVar("R")

Sleep = Callable[[float], "Awaitable[None] | None"]

_RETRY_AFTER_SPREAD = 0.1  # clients with the same Retry-After come back within a tenth of it


class Retry(Policy):
    """Repeats calls that fail with one of `config.on`; all other errors come out at once.

    After the last attempt its error comes out unchanged. A cancellation is never retried, and no
    retry starts that would have to wait past the current `deadline`.

    Args:
        config: which failures, how many attempts, how far apart.
        name: for events.
        budget: shared by all calls to a service; without budget an error comes out at once.
        sleep: waits that many seconds; plain or async (then only `arun` works). By default
            `time.sleep` and `asyncio.sleep`.
        rng: source of the jitter; by default one of this package.
        clock: of the deadline, monotonic seconds.
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
        """Use `config` for calls that begin from now on."""
        self.config = config

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Check that `sleep` works in a plain function.

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
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        if self.budget is not None:
            self.budget.record_call()
        call: _Call[R] = _Call(self, args, kwargs)
        self._make_attempt(fn, call)
        return self._retry(fn, call)

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` until it succeeds or may not be retried any more."""
        if self.budget is not None:
            self.budget.record_call()
        config = self.config
        try:
            result = await fn(*args, **kwargs)
        except config.on as error:
            call: _Call[R] = _Call(self, args, kwargs, error)
        else:
            if config.retry_result is None:
                return result
            call = _Call(self, args, kwargs, None, result)
        return await self._retry_async(fn, call)

    def attempts(self) -> RetryBlock:
        """The attempts of a block: loop with `async for` in an async function, `for` in a plain one.

        ```
        async for attempt in retry.attempts():
            with attempt:
                await fetch()
        ```
        """
        return RetryBlock(self)

    def snapshot(self) -> dict[str, object]:
        """The number of attempts, and what is left of the budget."""
        budget = None if self.budget is None else self.budget.available
        return {**super().snapshot(), "attempts": self.config.attempts, "budget": budget}

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Wrap a plain function; as `run`, with the first attempt written out.

        So a first attempt that succeeds, the usual case, needs no `_Call` object.
        """

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.budget is not None:
                self.budget.record_call()
            config = self.config
            try:
                result = fn(*args, **kwargs)
            except config.on as error:
                call: _Call[R] = _Call(self, args, kwargs, error)
            else:
                if type(result) not in FINAL_TYPES:
                    refuse_deferred(result)
                if config.retry_result is None:
                    return result
                call = _Call(self, args, kwargs, None, result)
            return self._retry(fn, call)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Wrap an async function; as `arun`, without its frame."""

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.budget is not None:
                self.budget.record_call()
            config = self.config
            try:
                result = await fn(*args, **kwargs)
            except config.on as error:
                call: _Call[R] = _Call(self, args, kwargs, error)
            else:
                if config.retry_result is None:
                    return result
                call = _Call(self, args, kwargs, None, result)
            return await self._retry_async(fn, call)

        return guarded

    def wait_after(
        self,
        error: Exception | None,
        attempt: int,
        previous: float = 0.0,
        *,
        config: RetryConfig | None = None,
    ) -> float | None:
        """Seconds to wait before the next attempt; None if there must not be one.

        For code that makes the attempts itself. A wait takes one retry from the budget.

        Args:
            error: why the attempt failed; None if its result is to be retried.
            attempt: number of that attempt, from 1.
            previous: the wait before that attempt; 0 for the first.
            config: the config of the call; the present one by default.
        """
        config = config or self.config
        if attempt >= config.attempts or not (error is None or isinstance(error, config.on)):
            return None
        wait = config.wait_seconds(error, attempt, previous, self._random)
        retry_after = getattr(error, "retry_after", None)
        if isinstance(retry_after, int | float) and retry_after > 0:
            if retry_after > config.max_retry_after_seconds:
                return None
            # Never earlier than the server asks for, and not every client at the same moment.
            wait = max(wait, retry_after * (1 + _RETRY_AFTER_SPREAD * self._random()))
        if self._exceeds_deadline(wait) or not (self.budget is None or self.budget.try_spend()):
            return None
        if self._subscribers:
            self._notify(CallRetried(self.kind, self.name, attempt, wait, error))
        return wait

    def pause(self, seconds: float) -> None:
        """Wait in a plain function."""
        result = self._sleep(seconds)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)

    async def async_pause(self, seconds: float) -> None:
        """Wait in an async function."""
        result = self._async_sleep(seconds)
        if result is not None:
            await result

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self.config.on)
        return f"Retry({self.name!r}, {self.config.attempts} attempts on {kinds})"

    def _exceeds_deadline(self, wait: float) -> bool:
        remaining = deadline.remaining(self._clock)
        return remaining is not None and wait >= remaining

    def _retry(self, fn: Callable[..., R], call: _Call[R]) -> R:
        """Make the attempts that follow the first."""
        while (wait := call.next_wait()) is not None:
            self.pause(wait)
            self._make_attempt(fn, call)
        return call.outcome()

    def _make_attempt(self, fn: Callable[..., R], call: _Call[R]) -> None:
        call.error = None
        try:
            call.result = fn(*call.args, **call.kwargs)
        except call.config.on as error:
            call.error = error
        if type(call.result) not in FINAL_TYPES:
            refuse_deferred(call.result)

    async def _retry_async(self, fn: Callable[..., Awaitable[R]], call: _Call[R]) -> R:
        """Make the attempts that follow the first."""
        while (wait := call.next_wait()) is not None:
            await self.async_pause(wait)
            call.error = None
            try:
                call.result = await fn(*call.args, **call.kwargs)
            except call.config.on as error:
                call.error = error
        return call.outcome()


class _Call(Generic[R]):
    """One call with its attempts: arguments, config, and the outcome of the last attempt."""

    # The config is kept: a `reconfigure` during the call must not change its rules.
    __slots__ = ("args", "attempt", "config", "error", "kwargs", "last_wait", "result", "retry")

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
        self.last_wait = 0.0

    def next_wait(self) -> float | None:
        """Seconds until the next attempt; None if the last outcome is final."""
        self.attempt += 1
        if not self._needs_retry() or not self.config.may_repeat(
            self.error, self.args, self.kwargs
        ):
            return None
        wait = self.retry.wait_after(self.error, self.attempt, self.last_wait, config=self.config)
        self.last_wait = wait or 0.0
        return wait

    def outcome(self) -> R:
        """The last result; raises the last error if there is one."""
        if self.error is not None:
            raise self.error
        return cast("R", self.result)

    def _needs_retry(self) -> bool:
        is_failed_result = self.config.retry_result
        return self.error is not None or (
            is_failed_result is not None and is_failed_result(self.result)
        )


class Attempt:
    """One attempt of a retried block: `with attempt:`.

    Attributes:
        number: number of the attempt, from 1.
        wait_seconds: the wait before the next attempt; None if this is the last one.
    """

    def __init__(self, retry: Retry, number: int, last_wait: float) -> None:
        self._retry = retry
        self._config = retry.config
        self._last_wait = last_wait
        self.number = number
        self.wait_seconds: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        # True suppresses the error: another attempt follows. All other errors come out.
        if isinstance(exc, self._config.on) and self._config.may_repeat(exc, (), {}):
            self.wait_seconds = self._retry.wait_after(
                exc, self.number, self._last_wait, config=self._config
            )
        return self.wait_seconds is not None


class RetryBlock:
    """The attempts of one block, in turn; ends after the first that is not to be repeated."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry

    def __iter__(self) -> Iterator[Attempt]:
        attempt = self._first_attempt()
        yield attempt
        while attempt.wait_seconds is not None:
            self._retry.pause(attempt.wait_seconds)
            attempt = self._next_attempt(attempt)
            yield attempt

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        attempt = self._first_attempt()
        yield attempt
        while attempt.wait_seconds is not None:
            await self._retry.async_pause(attempt.wait_seconds)
            attempt = self._next_attempt(attempt)
            yield attempt

    def _first_attempt(self) -> Attempt:
        if self._retry.budget is not None:
            self._retry.budget.record_call()
        return Attempt(self._retry, 1, 0.0)

    def _next_attempt(self, previous: Attempt) -> Attempt:
        return Attempt(self._retry, previous.number + 1, previous.wait_seconds or 0.0)
