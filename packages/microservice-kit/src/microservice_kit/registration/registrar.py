"""Keeping this process's services in the registry: from the start, through bad health, to the end."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from microservice_core import (
    RegistrationHandover,
    ServiceInstance,
    ServiceRegistry,
    ServiceRegistryError,
)

from .registration_lock import AddressTurn

__all__ = ("OnUnavailable", "Registrar", "Registration", "WarmUp", "keep_trying")

logger = logging.getLogger(__name__)

OnUnavailable = Literal["fail", "wait", "degrade"]

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
WARM_UP_STEPS = 10
STAND_BY_SECONDS = 0.05


class WarmUp:
    """The share of its weight that an instance takes while it is young.

    It grows from a tenth to the whole in ten steps, evenly: each step is one write to the registry.

    Args:
        seconds: how long until the whole; 0 = at once.
    """

    def __init__(self, seconds: float) -> None:
        self.step_seconds = seconds / WARM_UP_STEPS

    @property
    def shares(self) -> Sequence[float]:
        """The share after each step; the last one is 1."""
        if not self.step_seconds:
            return (1.0,)
        return tuple(step / WARM_UP_STEPS for step in range(1, WARM_UP_STEPS + 1))


class Registration:
    """One instance and what the registry is told of it: how much of its weight, whether to use it.

    Attributes:
        instance: as the application described it.
        registered: the registry knows it, from this process.
        in_rotation: health lets it take calls.
    """

    def __init__(
        self,
        registry: ServiceRegistry,
        instance: ServiceInstance,
        *,
        warm_up: WarmUp,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._registry = registry
        self._warm_up = warm_up
        self._sleep = sleep
        self._share = warm_up.shares[0]
        self._one_at_a_time = asyncio.Lock()
        self._ended = False
        self.turn = AddressTurn(instance, registry)
        self.instance = instance
        self.registered = False
        self.in_rotation = True

    async def register(self) -> None:
        """Tell the registry.

        Raises:
            ServiceRegistryError: it cannot be told.
        """
        async with self._one_at_a_time:
            if not self._ended:
                await self._tell()

    async def warm_up(self) -> None:
        """Raise the weight step by step; a step that fails is made up for by the next."""
        for share in self._warm_up.shares[1:]:
            await self._sleep(self._warm_up.step_seconds)
            self._share = share
            await self._update()

    async def set_in_rotation(self, in_rotation: bool) -> None:
        """Take the instance out, or back in; telling the same twice costs nothing."""
        if in_rotation != self.in_rotation:
            self.in_rotation = in_rotation
            logger.warning(
                "%s at %s is %s rotation",
                self.instance.service_name,
                self.instance.address,
                "back in" if in_rotation else "out of",
            )
            await self._update()

    async def deregister(self) -> None:
        """Take the instance out for good, unless another process serves its address.

        Raises:
            ServiceRegistryError: the registry cannot be told; the lease will end.
        """
        self._ended = True
        async with self._one_at_a_time:
            self.registered = False
            try:
                if await self._is_ours_to_take_out():
                    await self._registry.deregister(self.instance)
            finally:
                self.turn.give_up()

    async def _is_ours_to_take_out(self) -> bool:
        if not isinstance(self._registry, RegistrationHandover):
            return self.turn.held
        if self.turn.held:
            # No longer kept alive by us: a beat could bring back what the last one takes out.
            await self._registry.hand_over(self.instance)
        return self.turn.leave()

    async def _update(self) -> None:
        async with self._one_at_a_time:
            if not self.registered or self._ended:
                return
            try:
                await self._tell()
            except ServiceRegistryError as error:
                logger.warning("%s; the registry learns of it with the next change", error)

    async def _tell(self) -> None:
        told = replace(
            self.instance,
            weight=self.instance.weight * self._share,
            enabled=self.instance.enabled and self.in_rotation,
        )
        await self._registry.register(told)
        if not self.registered:
            self.registered = True
            logger.info("registered %s at %s", told.service_name, told.address)


class Registrar:
    """All registrations of a module: registers, follows health, deregisters first.

    Args:
        on_unavailable: when the registry cannot be told at the start, `fail`, `wait` up to
            `wait_seconds`, or `degrade`: start without, and go on trying.
        warm_up_seconds: how long a new instance takes less than its share.
    """

    def __init__(
        self,
        registry: ServiceRegistry,
        *,
        on_unavailable: OnUnavailable = "fail",
        wait_seconds: float = 60.0,
        warm_up_seconds: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._registry = registry
        self._policy = on_unavailable
        self._wait_seconds = wait_seconds
        self._warm_up = WarmUp(warm_up_seconds)
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._tasks: set[asyncio.Task[None]] = set()
        self.registrations: list[Registration] = []

    async def reach(self, service_name: str) -> None:
        """Ask the registry something before there is anything to tell it.

        Raises:
            ServiceRegistryError: it does not answer, and the policy does not cover that.
        """
        if self._policy != "degrade":
            await self._by_policy(partial(self._asked, service_name))

    async def add(self, instance: ServiceInstance, *, patient: bool = False) -> Registration:
        """Register an instance, and keep it so until the end.

        Of several processes that serve one address, such as a prefork server's workers, one does
        it; the others stand by and take over when it ends.

        Args:
            patient: go on trying in the background whatever the policy says.

        Raises:
            ServiceRegistryError: the registry cannot be told, and the policy does not cover that.
        """
        registration = Registration(
            self._registry, instance, warm_up=self._warm_up, sleep=self._sleep
        )
        self.registrations.append(registration)
        if not registration.turn.take():
            logger.info("another process keeps %s registered; standing by", instance.address)
            _ = self._start(self._stand_by(registration))
        elif patient or self._policy == "degrade":
            await self._register_patiently(registration)
        else:
            await self._by_policy(registration.register)
        if self._warm_up.step_seconds:
            _ = self._start(registration.warm_up())
        return registration

    async def set_in_rotation(self, in_rotation: bool) -> None:
        """Take every instance out, or back in."""
        for registration in self.registrations:
            await registration.set_in_rotation(in_rotation)

    async def aclose(self) -> None:
        """Deregister everything; one that cannot be told does not keep the others in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        registrations, self.registrations = self.registrations, []
        for registration in registrations:
            try:
                await registration.deregister()
            except ServiceRegistryError as error:
                logger.warning("%s; its lease ends by itself", error)

    async def _asked(self, service_name: str) -> None:
        await self._registry.get_instances(service_name)

    async def _register_patiently(self, registration: Registration) -> None:
        try:
            await registration.register()
        except ServiceRegistryError as error:
            if not error.retryable:
                raise
            logger.warning("%s; trying again", error)
            _ = self._start(keep_trying(registration.register, self._sleep, self._rng))

    async def _stand_by(self, registration: Registration) -> None:
        while not registration.turn.take():
            await self._sleep(STAND_BY_SECONDS)
        try:
            await self._register_patiently(registration)
        except ServiceRegistryError as error:
            logger.error("%s; given up", error)  # noqa: TRY400

    async def _by_policy(self, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await attempt()
        except ServiceRegistryError as error:
            if self._policy == "fail" or not error.retryable:
                raise
            logger.warning("%s; trying again", error)
            trying = self._start(keep_trying(attempt, self._sleep, self._rng))
            await self._wait_for(trying, error)

    async def _wait_for(self, trying: asyncio.Task[None], error: ServiceRegistryError) -> None:
        limit = asyncio.ensure_future(self._sleep(self._wait_seconds))
        try:
            await asyncio.wait({trying, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
        if not trying.done():
            trying.cancel()
            raise error
        await trying

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def keep_trying(
    attempt: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]],
    rng: random.Random,
) -> None:
    """Attempt it until the registry listens, with growing pauses.

    Raises:
        ServiceRegistryError: a refusal; trying again does not help.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        wait = pause * rng.uniform(0.5, 1.0)
        await sleep(wait)
        try:
            await attempt()
        except ServiceRegistryError as error:
            if not error.retryable:
                logger.error("%s; given up", error)  # noqa: TRY400
                raise
            logger.debug("%s; trying again", error)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            return
