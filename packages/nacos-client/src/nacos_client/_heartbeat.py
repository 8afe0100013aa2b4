"""Keep registered instances alive: beats on a monotonic schedule, from a thread of their own."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _names as names
from .errors import InstanceNotFound, NacosError
from .models import BeatStatus, Registration

if TYPE_CHECKING:
    import random

    from ._naming import NamingOperations
    from ._polling import Pause, Run
    from ._steps import Clock

__all__ = ("Heartbeats",)

logger = logging.getLogger(__name__)


Key = tuple[str, str, str, str, int]

LONGEST_BEAT = 3.0
FAREWELL_SECONDS = 1.4
MOST_FAREWELLS_AT_ONCE = 32


@dataclass(slots=True)
class _Pulse:
    """One instance that is kept alive."""

    registration: Registration
    task: asyncio.Task[None] | None = None
    in_trouble: bool = False


class Heartbeats:
    """All instances one client keeps alive. Lives on the background loop.

    A beat that fails is tried again after a fifth of the interval, for ever; an instance the
    server has forgotten is registered again with all its data.
    """

    def __init__(
        self,
        operations: NamingOperations,
        run: Run,
        *,
        clock: Clock,
        rng: random.Random,
        sleep: Pause = asyncio.sleep,
    ) -> None:
        self._operations = operations
        self._run = run
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._pulses: dict[Key, _Pulse] = {}
        self._sent = 0
        self._failed = 0
        self._reregistered = 0
        self._worst_lag = 0.0

    @property
    def status(self) -> BeatStatus:
        """How the beats fare; may be read from any thread."""
        return BeatStatus(
            instances=len(self._pulses),
            sent=self._sent,
            failed=self._failed,
            reregistered=self._reregistered,
            worst_lag_seconds=self._worst_lag,
        )

    async def kept(self, key: Key) -> Registration | None:
        """What is kept alive under this key."""
        pulse = self._pulses.get(key)
        return pulse.registration if pulse is not None else None

    async def keep(self, registration: Registration) -> None:
        """Begin to beat for the instance; it replaces an earlier one of the same address."""
        await self.forget(registration.key)
        pulse = self._pulses[registration.key] = _Pulse(registration)
        pulse.task = asyncio.create_task(self._beat_on(pulse))

    async def forget(self, key: Key) -> Registration | None:
        """Stop beating; when this returns no beat or re-registration is under way."""
        pulse = self._pulses.pop(key, None)
        if pulse is None:
            return None
        if pulse.task is not None:
            pulse.task.cancel()
            await asyncio.wait([pulse.task])
        return pulse.registration

    async def farewell(self) -> None:
        """Stop all beats and deregister what was kept alive, as far as time allows."""
        pulses, self._pulses = list(self._pulses.values()), {}
        beating = [pulse.task for pulse in pulses if pulse.task is not None]
        for task in beating:
            task.cancel()
        if beating:
            await asyncio.wait(beating)
        gate = asyncio.Semaphore(MOST_FAREWELLS_AT_ONCE)
        leaving = [asyncio.create_task(self._leave(each.registration, gate)) for each in pulses]
        if not leaving:
            return
        _, late = await asyncio.wait(leaving, timeout=FAREWELL_SECONDS)
        for task in late:
            task.cancel()
        if late:
            logger.warning("%d instances were not deregistered in time; they expire", len(late))

    async def _leave(self, registration: Registration, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                farewell = self._operations.deregister(
                    registration, timeout_seconds=FAREWELL_SECONDS
                )
                await self._run(farewell)
            except NacosError as error:
                logger.warning("%s expires by itself: %s", registration.service, error)

    async def _beat_on(self, pulse: _Pulse) -> None:
        milliseconds = names.beat_milliseconds(pulse.registration.metadata, names.BEAT_INTERVAL)
        interval = milliseconds / 1000
        due = self._clock() + interval * self._rng.uniform(0.5, 1.0)
        while True:
            await self._sleep(max(due - self._clock(), 0.0))
            began = self._clock()
            self._worst_lag = max(self._worst_lag, began - due)
            alive = await self._beat(pulse, min(LONGEST_BEAT, interval * 0.6))
            step = interval * (self._rng.uniform(0.95, 1.0) if alive else 0.2)
            due = max(due + step, self._clock()) if alive else self._clock() + step

    async def _beat(self, pulse: _Pulse, timeout_seconds: float) -> bool:
        """Whether the server knows the instance now."""
        self._sent += 1
        try:
            await self._beat_or_register(pulse.registration, timeout_seconds)
        except NacosError as error:
            self._failed += 1
            if not pulse.in_trouble:
                logger.warning("beat of %s: %s", pulse.registration.service, error)
            pulse.in_trouble = True
        except Exception:
            self._failed += 1
            if not pulse.in_trouble:
                logger.exception("beat of %s failed; beats go on", pulse.registration.service)
            pulse.in_trouble = True
        else:
            if pulse.in_trouble:
                logger.info("beats of %s arrive again", pulse.registration.service)
            pulse.in_trouble = False
        return not pulse.in_trouble

    async def _beat_or_register(self, registration: Registration, timeout_seconds: float) -> None:
        try:
            await self._run(self._operations.beat(registration, timeout_seconds=timeout_seconds))
        except InstanceNotFound:
            await self._run(
                self._operations.register(registration, timeout_seconds=timeout_seconds)
            )
            self._reregistered += 1
            logger.info(
                "the server had forgotten %s at %s:%d; registered again",
                registration.service,
                registration.ip,
                registration.port,
            )
