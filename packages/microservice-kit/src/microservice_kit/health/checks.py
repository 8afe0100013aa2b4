"""Health: is the process alive, is it ready for traffic, and which check fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from microservice_core import InvalidValueError, MicroserviceError

__all__ = ("CheckResult", "Health", "HealthCheck", "Status")

logger = logging.getLogger(__name__)

Status = Literal["up", "down", "out_of_service"]
HealthCheck = Callable[[], Awaitable[object] | object]

_MAX_CHECKS = 64


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        detail: the text that the check returned; for a failed check the kind of the error, and its
            text if it is one of the toolkit's own, which contain no secrets.
        seconds: how long the check took.
    """

    status: Status
    detail: str
    seconds: float


@dataclass(slots=True)
class _Check:
    name: str
    function: HealthCheck
    timeout_seconds: float
    critical: bool
    result: CheckResult | None = None
    due_at: float = float("-inf")
    running: asyncio.Task[CheckResult] | None = None


class Health:
    """The checks of one process, each run at most once per `cache_seconds`.

    A check is a plain or async callable: raising means down, a returned text is shown. A plain one
    runs in a thread, so that a slow one does not block the event loop.

    Attributes:
        cache_seconds: how long a result is used before the check runs again.
        started: the start-up has ended; before that the process is not ready.
        draining: the process is about to end: it is not ready, whatever the checks say.
    """

    def __init__(
        self, *, cache_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache_seconds = cache_seconds
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
            InvalidValueError: there are too many checks, or the timeout is not above 0.
        """
        if not timeout_seconds > 0:
            raise InvalidValueError("timeout_seconds", timeout_seconds, "a number above 0")
        if name not in self._checks and len(self._checks) >= _MAX_CHECKS:
            raise InvalidValueError("name", name, f"one of at most {_MAX_CHECKS} checks")
        self._checks[name] = _Check(name, check, timeout_seconds, critical)

    async def ready(self) -> bool:
        """Whether traffic may come: started, not draining, every critical check up."""
        results = await self.check()
        if not self.started or self.draining:
            return False
        return all(
            results[name].status == "up" for name, check in self._checks.items() if check.critical
        )

    async def status(self) -> Status:
        """Return the status of the whole process.

        It is `out_of_service` before the start-up has ended and while the process drains.
        """
        if await self.ready():
            return "up"
        return "out_of_service" if self.draining or not self.started else "down"

    async def check(self) -> Mapping[str, CheckResult]:
        """Return the result of every check, by name; one that is fresh enough is not run again."""
        names = tuple(self._checks)
        results = await asyncio.gather(*(self._get_result(self._checks[name]) for name in names))
        return dict(zip(names, results, strict=True))

    async def aclose(self) -> None:
        """Cancel the checks that still run."""
        running = [check.running for check in self._checks.values() if check.running is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _get_result(self, check: _Check) -> CheckResult:
        if check.result is not None and self._clock() < check.due_at:
            return check.result
        if check.running is None:
            # One run for every caller meanwhile. No supervisor: `_run` raises nothing, and every
            # caller waits for its end.
            check.running = asyncio.ensure_future(self._run(check))
        # Shielded: a caller that is cancelled does not cancel the run that others wait for.
        return await asyncio.shield(check.running)

    async def _run(self, check: _Check) -> CheckResult:
        started_at = self._clock()
        status: Status = "up"
        try:
            async with asyncio.timeout(check.timeout_seconds):
                detail = str(await _call(check.function) or "")
        except TimeoutError:
            status, detail = "down", f"no result within {check.timeout_seconds:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the check failed
            status, detail = "down", _describe_error(error)
        finally:
            check.running = None
        result = CheckResult(status, detail, self._clock() - started_at)
        _log_change(check, result)
        check.result, check.due_at = result, self._clock() + self.cache_seconds
        return result


async def _call(function: HealthCheck) -> object:
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        result = function()
    else:
        result = await asyncio.to_thread(function)
    return await result if inspect.isawaitable(result) else result


def _describe_error(error: Exception) -> str:
    is_ours = isinstance(error, MicroserviceError)
    return f"{type(error).__name__}: {error}" if is_ours else type(error).__name__


def _log_change(check: _Check, result: CheckResult) -> None:
    last_status = check.result.status if check.result else "up"
    if result.status != last_status:
        level = logging.INFO if result.status == "up" else logging.WARNING
        logger.log(level, "health check %r is %s now: %s", check.name, result.status, result.detail)
