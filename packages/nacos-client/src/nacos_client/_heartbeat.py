"""Keep registered instances alive: beats on a monotonic schedule, on the background loop."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from functools import partial
from itertools import count

from ._naming import NamingOperations
from ._polling import AsyncSleep, RunOperation
from ._steps import CLOSED_DURING_CALL, Clock
from ._supervision import TaskSupervisor
from ._validation import BEAT_INTERVAL, read_beat_milliseconds
from .errors import ClientClosedError, InstanceNotFound, NacosError
from .models import BeatStatus, Registration

__all__ = ("Heartbeats",)

logger = logging.getLogger(__name__)

RegistrationKey = tuple[str, str, str, str, int]

_MAX_BEAT_SECONDS = 3.0
_TASK_CLOSE_SECONDS = 0.5
_DEREGISTER_SECONDS = 1.4
_MAX_CONCURRENT_DEREGISTRATIONS = 32


@dataclass(slots=True)
class _Heartbeat:
    """The heartbeat of one instance."""

    registration: Registration
    task_name: str
    failing: bool = False


class Heartbeats:
    """All instances one client keeps alive. Lives on the background loop.

    A beat that fails is repeated after a fifth of the interval, as long as it takes; an instance
    that the server has forgotten is registered again with all its data.
    """

    def __init__(
        self,
        operations: NamingOperations,
        run: RunOperation,
        *,
        clock: Clock,
        rng: random.Random,
        sleep: AsyncSleep = asyncio.sleep,
    ) -> None:
        self._operations = operations
        self._run = run
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._heartbeats: dict[RegistrationKey, _Heartbeat] = {}
        self._tasks = TaskSupervisor(
            "Nacos heartbeats",
            close_seconds=_TASK_CLOSE_SECONDS,
            clock=clock,
            sleep=sleep,
            random=rng.random,
        )
        # Two heartbeats of one address may overlap, while the older one ends.
        self._task_names = (f"heartbeat {number}" for number in count(1))
        self._closed = False
        self._sent = 0
        self._failed = 0
        self._reregistered = 0
        self._worst_lag = 0.0

    @property
    def status(self) -> BeatStatus:
        """Statistics of the beats; may be read from any thread."""
        return BeatStatus(
            instances=len(self._heartbeats),
            sent=self._sent,
            failed=self._failed,
            reregistered=self._reregistered,
            worst_lag_seconds=self._worst_lag,
        )

    async def find(self, key: RegistrationKey) -> Registration | None:
        """The registration that is kept alive under this key; None when there is none."""
        heartbeat = self._heartbeats.get(key)
        return heartbeat.registration if heartbeat is not None else None

    async def start(self, registration: Registration) -> None:
        """Begin to beat for the instance; it replaces an earlier one of the same address.

        Raises:
            ClientClosedError: after `aclose`.
        """
        key = registration.key
        while key in self._heartbeats:
            await self.stop(key)
        if self._closed:
            raise ClientClosedError(CLOSED_DURING_CALL)
        heartbeat = self._heartbeats[key] = _Heartbeat(registration, next(self._task_names))
        self._tasks.start(heartbeat.task_name, partial(self._keep_beating, heartbeat))

    async def stop(self, key: RegistrationKey) -> Registration | None:
        """Stop beating; when this returns, no beat or re-registration is under way.

        Returns:
            what was kept alive; None when nothing was.
        """
        heartbeat = self._heartbeats.pop(key, None)
        if heartbeat is None:
            return None
        await self._tasks.stop(heartbeat.task_name)
        return heartbeat.registration

    async def aclose(self, seconds: float = _DEREGISTER_SECONDS) -> None:
        """Stop all beats and deregister the instances, as far as this time limit allows."""
        self._closed = True
        heartbeats, self._heartbeats = list(self._heartbeats.values()), {}
        await self._tasks.aclose()
        slots = asyncio.Semaphore(_MAX_CONCURRENT_DEREGISTRATIONS)
        tasks = [
            asyncio.create_task(self._deregister(each.registration, slots, seconds))
            for each in heartbeats
        ]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            logger.warning("%d instances were not deregistered in time; they expire", len(late))

    async def _deregister(
        self, registration: Registration, slots: asyncio.Semaphore, seconds: float
    ) -> None:
        async with slots:
            try:
                await self._run(self._operations.deregister(registration, timeout_seconds=seconds))
            except NacosError as error:
                logger.warning(
                    "%s was not deregistered and will expire: %s", registration.service, error
                )

    async def _keep_beating(self, heartbeat: _Heartbeat) -> None:
        metadata = heartbeat.registration.metadata
        interval = read_beat_milliseconds(metadata, BEAT_INTERVAL) / 1000
        due = self._clock() + interval * self._rng.uniform(0.5, 1.0)
        while True:
            await self._sleep(max(due - self._clock(), 0.0))
            began = self._clock()
            self._worst_lag = max(self._worst_lag, began - due)
            if await self._beat(heartbeat, min(_MAX_BEAT_SECONDS, interval * 0.6)):
                # From the time it was due, so that a slow beat does not delay all later ones; but
                # never in the past, or a long pause of the process would end in a burst.
                due = max(due + interval * self._rng.uniform(0.95, 1.0), self._clock())
            else:
                due = self._clock() + interval * 0.2

    async def _beat(self, heartbeat: _Heartbeat, timeout_seconds: float) -> bool:
        """Send one beat; returns whether the server knows the instance now."""
        service = heartbeat.registration.service
        self._sent += 1
        try:
            await self._beat_or_register(heartbeat.registration, timeout_seconds)
        except NacosError as error:
            self._failed += 1
            if not heartbeat.failing:
                logger.warning("beat of %s: %s", service, error)
            heartbeat.failing = True
        except Exception:
            self._failed += 1
            if not heartbeat.failing:
                logger.exception("beat of %s failed; beats continue", service)
            heartbeat.failing = True
        else:
            if heartbeat.failing:
                logger.info("beats of %s arrive again", service)
            heartbeat.failing = False
        return not heartbeat.failing

    async def _beat_or_register(self, registration: Registration, timeout_seconds: float) -> None:
        try:
            await self._run(self._operations.beat(registration, timeout_seconds=timeout_seconds))
        except InstanceNotFound:
            await self._run(
                self._operations.register(registration, timeout_seconds=timeout_seconds)
            )
            self._reregistered += 1
            logger.info(
                "the server had forgotten %s at %s:%d; registered it again",
                registration.service,
                registration.ip,
                registration.port,
            )
