"""Fault injection: fails or delays some calls on purpose, to see how the other policies react."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Annotated, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from .deferred_results import FINAL_TYPES, refuse_deferred
from .errors import InjectedFaultError
from .events import FaultInjected
from .policy import Policy, is_async
from .testing_mode import async_sleep
from .testing_mode import rng as default_rng
from .testing_mode import sleep as default_sleep

__all__ = ("FaultInjection", "FaultInjectionConfig")

P = ParamSpec("P")
R = TypeVar("R")

Share = Annotated[float, Field(ge=0, le=1)]


class FaultInjectionConfig(BaseModel):
    """Which faults are injected into which share of the calls.

    Attributes:
        error_rate: share of the calls, from 0 to 1, that fail without being made.
        delay_rate: share of the calls, from 0 to 1, that are delayed. One call may be delayed and
            fail.
        delay_seconds: length of a delay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_rate: Share = 0.0
    delay_rate: Share = 0.0
    delay_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0


class FaultInjection(Policy):
    """Fails and delays a share of the calls. Innermost in a pipeline, where a backend would fail.

    Args:
        error: creates the error of a call that fails; an `InjectedFaultError` by default.
        only: a predicate on a call's arguments; calls for which it is false are left alone.
        name: for messages and events.
        sleep: waits that many seconds; plain or async (then only async functions can be guarded).
        rng: chooses the calls that get a fault.
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
        self._create_error = error or self._create_default_error
        self._only = only
        self._sleep = sleep or default_sleep
        self._async_sleep = sleep or async_sleep
        self._random = (default_rng if rng is None else rng).random

    def reconfigure(self, config: FaultInjectionConfig) -> None:
        """Use `config` for calls that begin from now on."""
        self.config = config

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Check that `sleep` works in a plain function.

        Raises:
            TypeError: `sleep` is a coroutine function.
        """
        if is_async(self._sleep):
            raise TypeError(
                f"{self.name!r} has an async sleep, which a plain function cannot await; "
                "give it a plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`, perhaps after a delay, unless the call is chosen to fail.

        Raises:
            InjectedFaultError: the call was chosen to fail, and no other `error` is configured.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        if self._may_affect(*args, **kwargs):
            if self._draw_fault(self.config.delay_rate, "delay"):
                refuse_deferred(self._sleep(self.config.delay_seconds))
            self._fail_if_drawn()
        result = fn(*args, **kwargs)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`, perhaps after a delay, unless the call is chosen to fail.

        Raises:
            InjectedFaultError: the call was chosen to fail, and no other `error` is configured.
        """
        if self._may_affect(*args, **kwargs):
            if self._draw_fault(self.config.delay_rate, "delay"):
                pause = self._async_sleep(self.config.delay_seconds)
                if pause is not None:
                    await pause
            self._fail_if_drawn()
        return await fn(*args, **kwargs)

    def snapshot(self) -> dict[str, object]:
        """The configured rates and delay."""
        return {**super().snapshot(), **self.config.model_dump()}

    def _may_affect(self, *args: object, **kwargs: object) -> bool:
        return self._only is None or self._only(*args, **kwargs)

    def _fail_if_drawn(self) -> None:
        if self._draw_fault(self.config.error_rate, "error"):
            raise self._create_error()

    def _draw_fault(self, share: float, fault: str) -> bool:
        """Decide by chance whether this call gets the fault; if so, notify the listeners."""
        if not share or self._random() >= share:
            return False
        if self._subscribers:
            self._notify(FaultInjected(self.kind, self.name, fault))
        return True

    def _create_default_error(self) -> InjectedFaultError:
        return InjectedFaultError(
            f"{self.name!r} failed this call on purpose; "
            "turn the fault injection off if no drill is running"
        )
