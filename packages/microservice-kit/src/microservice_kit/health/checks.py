"""Health: is the process alive, is it ready for traffic, and what is wrong where it is not."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from microservice_core import InvalidValueError

__all__ = ("CheckResult", "Health", "HealthCheck", "Status")

logger = logging.getLogger(__name__)

Status = Literal["up", "down", "out_of_service"]
HealthCheck = Callable[[], Awaitable[object] | object]

MOST_CHECKS = 64


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        detail: what it says; for a failed check the error's kind, and its text if it is one of the
            toolkit's own, which hold no secrets.
        seconds: how long it took.
    """

    status: Status
    detail: str
    seconds: float


@dataclass(slots=True)
class _Check:
    run: HealthCheck
    timeout_seconds: float
    critical: bool
    result: CheckResult | None = None
    due_at: float = float("-inf")
    running: asyncio.Task[CheckResult] | None = None


class Health:
    """The checks of one process, each asked at most once per `cache_seconds`.

    A check is a plain or async callable: raising means down, a returned text is shown. A plain one
    runs in a thread, so that a slow one holds nobody up.

    Attributes:
        draining: the process is about to end: it is not ready, whatever the checks say.
    """

    def __init__(
        self, *, cache_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._checks: dict[str, _Check] = {}
        self.started = False
        self.draining = False

    def add(
        self,
        name: str,
        check: HealthCheck,
        *,
        timeout_seconds: float = 2.0,
        critical: bool = True,
    ) -> None:
        """Add a check, or replace the one of that name.

        Args:
            critical: False shows its result but leaves the process ready.

        Raises:
            InvalidValueError: there are too many checks, or the time is not above 0.
        """
        if not timeout_seconds > 0:
            raise InvalidValueError("timeout_seconds", timeout_seconds, "a number above 0")
        if name not in self._checks and len(self._checks) >= MOST_CHECKS:
            raise InvalidValueError("name", name, f"one of at most {MOST_CHECKS} checks")
        self._checks[name] = _Check(check, timeout_seconds, critical)

    async def ready(self) -> bool:
        """Whether traffic may come: started, not draining, every critical check up."""
        results = await self.check()
        if not self.started or self.draining:
            return False
        return all(
            results[name].status == "up" for name, check in self._checks.items() if check.critical
        )

    async def status(self) -> Status:
        """The process as a whole; `out_of_service` before its start has ended and while it drains."""
        if await self.ready():
            return "up"
        return "out_of_service" if self.draining or not self.started else "down"

    async def check(self) -> Mapping[str, CheckResult]:
        """The result of every check, by name; a fresh enough one is not asked again."""
        names = tuple(self._checks)
        results = await asyncio.gather(*(self._result(self._checks[name]) for name in names))
        return dict(zip(names, results, strict=True))

    async def aclose(self) -> None:
        """End the checks that still run."""
        running = [one.running for one in self._checks.values() if one.running is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _result(self, check: _Check) -> CheckResult:
        if check.result is not None and self._clock() < check.due_at:
            return check.result
        if check.running is None:
            # One run for everybody who asks meanwhile.
            check.running = asyncio.ensure_future(self._run(check))
        return await asyncio.shield(check.running)

    async def _run(self, check: _Check) -> CheckResult:
        began = self._clock()
        status: Status = "up"
        try:
            async with asyncio.timeout(check.timeout_seconds):
                detail = str(await _called(check.run) or "")
        except TimeoutError:
            status, detail = "down", f"no answer within {check.timeout_seconds:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the check failed
            status, detail = "down", _told(error)
        finally:
            check.running = None
        result = CheckResult(status, detail, self._clock() - began)
        _log_change(check.result, result)
        check.result, check.due_at = result, self._clock() + self._cache_seconds
        return result


async def _called(check: HealthCheck) -> object:
    if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
        getattr(check, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        answer = check()
    else:
        answer = await asyncio.to_thread(check)
    return await answer if inspect.isawaitable(answer) else answer


def _told(error: Exception) -> str:
    from microservice_core import MicroserviceError

    own = isinstance(error, MicroserviceError)
    return f"{type(error).__name__}: {error}" if own else type(error).__name__


def _log_change(before: CheckResult | None, now: CheckResult) -> None:
    if now.status != (before.status if before else "up"):
        logger.warning("a health check is %s now: %s", now.status, now.detail)
