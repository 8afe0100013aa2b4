"""Fault injection: makes some calls fail or wait, to see what the other policies make of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Annotated, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from .errors import InjectedFaultError
from .events import FaultInjected
from .policy import Policy, is_async, refuse_coroutine
from .testing_mode import async_sleep
from .testing_mode import rng as default_rng
from .testing_mode import sleep as default_sleep

__all__ = ("FaultInjection", "FaultInjectionConfig")

P = ParamSpec("P")
R = TypeVar("R")

Share = Annotated[float, Field(ge=0, le=1)]


class FaultInjectionConfig(BaseModel):
    """What happens to which share of the calls.

    Attributes:
        error_rate: share of the calls that fail without being made.
        delay_rate: share of the calls that wait first; both may meet the same call.
        delay_seconds: for how long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_rate: Share = 0.0
    delay_rate: Share = 0.0
    delay_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0


class FaultInjection(Policy):
    """Fails and delays a share of the calls; stands innermost, where the backend would fail.

    Args:
        error: makes the error of a call that is to fail.
        only: which calls may be touched, by their arguments; all by default.
        name: for messages and events.
        sleep: takes seconds; may be plain or async (then only async functions can be guarded).
        rng: decides which calls are touched.
    """

    kind = "fault_injection"

    def __init__(
        self,
        config: FaultInjectionConfig,
        *,
        error: Callable[[], Exception] | None = None,
        only: Callable[..., bool] | None = None,
        name: str = "fault injection",
        sleep: Callable[[float], Awaitable[None] | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.name = name
        self._error = error or self._drill
        self._only = only
        self._sleep = sleep or default_sleep
        self._async_sleep = sleep or async_sleep
        self._random = (default_rng if rng is None else rng).random

    def reconfigure(self, config: FaultInjectionConfig) -> None:
        """Touch another share of the calls from now on."""
        self.config = config

    def check_sync(self, fn: Callable[..., object]) -> None:
        """A plain function cannot await an async sleep.

        Raises:
            TypeError: `sleep` is a coroutine function.
        """
        if is_async(self._sleep):
            raise TypeError(
                f"{self.name!r} has an async sleep, which a plain function cannot await; "
                "give it a plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`, or not.

        Raises:
            InjectedFaultError: this call was to fail, and no other `error` was given.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        if self._touches(*args, **kwargs):
            if self._hits(self.config.delay_rate, "delay"):
                self._sleep(self.config.delay_seconds)
            self._maybe_fail()
        result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`, or not.

        Raises:
            InjectedFaultError: this call was to fail, and no other `error` was given.
        """
        if self._touches(*args, **kwargs):
            if self._hits(self.config.delay_rate, "delay"):
                slept = self._async_sleep(self.config.delay_seconds)
                if slept is not None:
                    await slept
            self._maybe_fail()
        return await fn(*args, **kwargs)

    def snapshot(self) -> dict[str, object]:
        """The shares in force."""
        return {**super().snapshot(), **self.config.model_dump()}

    def _touches(self, *args: object, **kwargs: object) -> bool:
        return self._only is None or self._only(*args, **kwargs)

    def _maybe_fail(self) -> None:
        if self._hits(self.config.error_rate, "error"):
            raise self._error()

    def _hits(self, share: float, fault: str) -> bool:
        if not share or self._random() >= share:
            return False
        if self._subscribers:
            self._emit(FaultInjected(self.kind, self.name, fault))
        return True

    def _drill(self) -> InjectedFaultError:
        return InjectedFaultError(
            f"{self.name!r} let this call fail on purpose; turn it off if there is no drill"
        )
