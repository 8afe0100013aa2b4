"""Keeps this process's services in the registry: from the start, through bad health, to the end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from microservice_core import (
    RegistrationHandover,
    ServiceInstance,
    ServiceRegistry,
    ServiceRegistryError,
    TaskSupervisor,
    reseed_after_fork,
)
from microservice_kit.outages import OnUnavailable, retry_pause_seconds

from .listing_check import warn_if_listed_otherwise
from .registration_lock import RegistrationLock

__all__ = ("Registrar", "Registration", "WarmUp")

logger = logging.getLogger(__name__)

_MAX_PAUSE_SECONDS = 15.0
_WARM_UP_STEPS = 10
_LOCK_POLL_SECONDS = 0.05
# By then the registry's own list has what was registered.
_LISTING_CHECK_SECONDS = 10.0


class WarmUp:
    """The share of its weight that an instance has while it is new.

    It grows from a tenth to the whole weight in ten even steps: each step is one write to the
    registry.

    Args:
        seconds: how long until the whole weight; 0 = at once.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.step_seconds = seconds / _WARM_UP_STEPS

    @property
    def shares(self) -> Sequence[float]:
        """The share after each step, 0 to 1; the last one is 1."""
        if not self.step_seconds:
            return (1.0,)
        return tuple(step / _WARM_UP_STEPS for step in range(1, _WARM_UP_STEPS + 1))


class Registration:
    """One instance and its state in the registry: its share of the weight, and its rotation.

    Attributes:
        instance: as the application described it.
        lock: says which of several workers of the address registers it.
        written: the instance as it was written last; None before.
        registered: whether this process registered it.
        in_rotation: whether its health lets it take calls.
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
        self._write_lock = asyncio.Lock()
        self._closed = False
        self.lock = RegistrationLock(instance, registry)
        self.instance = instance
        self.written: ServiceInstance | None = None
        self.registered = False
        self.in_rotation = True

    async def register(self) -> None:
        """Write the instance to the registry; does nothing after `deregister`.

        Raises:
            ServiceRegistryError: the registry cannot be reached, or refuses it.
        """
        async with self._write_lock:
            if not self._closed:
                await self._write()

    async def warm_up(self) -> None:
        """Raise the weight step by step; the next step makes up for one that fails."""
        for share in self._warm_up.shares[1:]:
            await self._sleep(self._warm_up.step_seconds)
            self._share = share
            await self._update()

    async def set_in_rotation(self, in_rotation: bool) -> None:
        """Take the instance out of rotation, or back in; without a change nothing is written."""
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
        """Remove the instance from the registry, unless another process serves its address.

        Raises:
            ServiceRegistryError: the registry cannot be reached; the lease will expire.
        """
        self._closed = True
        async with self._write_lock:
            self.registered = False
            try:
                if await self._stop_renewing():
                    await self._registry.deregister(self.instance)
            finally:
                self.lock.release()

    async def _stop_renewing(self) -> bool:
        """Stop renewing the lease; return whether no other process continues to renew it."""
        if not isinstance(self._registry, RegistrationHandover):
            return self.lock.held
        if self.lock.held:
            # Before the question who is the last: a late renewal of this process would bring back
            # the instance that the last process deregisters.
            await self._registry.hand_over(self.instance)
        return self.lock.sign_off()

    async def _update(self) -> None:
        async with self._write_lock:
            if not self.registered or self._closed:
                return
            try:
                await self._write()
            except ServiceRegistryError as error:
                logger.warning("%s; it is written with the next change", error)

    async def _write(self) -> None:
        instance = replace(
            self.instance,
            weight=self.instance.weight * self._share,
            enabled=self.instance.enabled and self.in_rotation,
        )
        await self._registry.register(instance)
        self.written = instance
        if not self.registered:
            self.registered = True
            logger.info("registered %s at %s", instance.service_name, instance.address)


class Registrar:
    """All registrations of a module: registers, applies health, deregisters.

    Args:
        on_unavailable: while the registry cannot be reached at the start, `fail`, `wait` up to
            `wait_seconds`, or `degrade`: start without, and keep trying.
        wait_seconds: how long `wait` waits.
        warm_up_seconds: how long a new instance has less than its weight.

    Attributes:
        registrations: what is registered, or being registered, now.
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
        self._on_unavailable = on_unavailable
        self._wait_seconds = wait_seconds
        self._warm_up = WarmUp(warm_up_seconds)
        self._sleep = sleep
        self._rng = rng or reseed_after_fork(random.Random())
        self._tasks = self._create_supervisor()
        self._task_ids = itertools.count(1)
        self.registrations: list[Registration] = []

    async def check_reachable(self, service_name: str) -> None:
        """Send the registry a request before there is an instance to register.

        Raises:
            ServiceRegistryError: it does not respond, and the policy does not cover that.
        """

        async def look_up() -> None:
            await self._registry.get_instances(service_name)

        if self._on_unavailable != "degrade":
            await self._attempt_by_policy(look_up)

    async def add(self, instance: ServiceInstance, *, patient: bool = False) -> Registration:
        """Register an instance, and keep it registered until `aclose`.

        Of several processes that serve one address, such as a prefork server's workers, one
        registers it; the others stand by and take over when that process ends.

        Args:
            patient: keep trying in the background whatever the policy says.

        Raises:
            ServiceRegistryError: the registry cannot be reached, and the policy does not cover
                that.
        """
        registration = Registration(
            self._registry, instance, warm_up=self._warm_up, sleep=self._sleep
        )
        self.registrations.append(registration)
        if not registration.lock.acquire():
            logger.info("another process keeps %s registered; standing by", instance.address)
            self._start("stand by", lambda: self._stand_by(registration))
        elif patient or self._on_unavailable == "degrade":
            await self._register_or_keep_trying(registration)
        else:
            await self._attempt_by_policy(registration.register)
        if self._warm_up.step_seconds:
            self._start("warm up", registration.warm_up)
        self._start("check the listing", lambda: self._check_listing(registration))
        return registration

    async def set_in_rotation(self, in_rotation: bool) -> None:
        """Take every instance out of rotation, or back in."""
        for registration in self.registrations:
            await registration.set_in_rotation(in_rotation)

    async def aclose(self) -> None:
        """Deregister every instance; a failure for one does not keep the others registered."""
        tasks, self._tasks = self._tasks, self._create_supervisor()
        await tasks.aclose()
        registrations, self.registrations = self.registrations, []
        for registration in registrations:
            try:
                await registration.deregister()
            except ServiceRegistryError as error:
                logger.warning("%s; its lease will expire", error)

    async def _register_or_keep_trying(self, registration: Registration) -> None:
        try:
            await registration.register()
        except ServiceRegistryError as error:
            if not error.retryable:
                raise
            logger.warning("%s; trying again", error)
            self._start("register", lambda: self._register_in_background(registration))

    async def _register_in_background(self, registration: Registration) -> None:
        try:
            await self._keep_trying(registration.register)
        except ServiceRegistryError as error:
            logger.error("%s; not retrying (permanent error)", error)  # noqa: TRY400

    async def _stand_by(self, registration: Registration) -> None:
        # A poll, not a blocking lock in a thread: such a thread cannot be cancelled, so closing this
        # worker, and the end of the interpreter, would wait until another worker ended. It would
        # also block on a file that the last worker has removed meanwhile. One attempt is one system
        # call that does not block; the pause is the longest time that the address is missing.
        while not registration.lock.acquire():
            await self._sleep(_LOCK_POLL_SECONDS)
        try:
            await self._register_or_keep_trying(registration)
        except ServiceRegistryError as error:
            logger.error("%s; not retrying (permanent error)", error)  # noqa: TRY400

    async def _attempt_by_policy(self, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await attempt()
        except ServiceRegistryError as error:
            if self._on_unavailable == "fail" or not error.retryable:
                raise
            logger.warning("%s; trying again", error)
            await self._keep_trying_in_time(attempt, error)

    async def _keep_trying_in_time(
        self, attempt: Callable[[], Awaitable[None]], error: ServiceRegistryError
    ) -> None:
        """Keep trying for `wait_seconds`, then raise the first error."""
        # Both tasks have ended when this returns; nothing of them can be lost.
        trying = asyncio.ensure_future(self._keep_trying(attempt))
        time_limit = asyncio.ensure_future(self._sleep(self._wait_seconds))
        try:
            await asyncio.wait({trying, time_limit}, return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                raise error
            await trying
        finally:
            trying.cancel()
            time_limit.cancel()
            await asyncio.wait({trying, time_limit})

    async def _keep_trying(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Attempt it until it succeeds: each attempt after a pause, each pause longer.

        Raises:
            ServiceRegistryError: a refusal; trying again does not help.
        """
        failures = 0
        while True:
            failures += 1
            pause = retry_pause_seconds(failures, max_seconds=_MAX_PAUSE_SECONDS, rng=self._rng)
            await self._sleep(pause)
            try:
                await attempt()
            except ServiceRegistryError as error:
                if not error.retryable:
                    raise
                logger.debug("%s; trying again", error)
            else:
                return

    async def _check_listing(self, registration: Registration) -> None:
        """Compare what is listed with what was written, once, soon after the registration."""
        await self._sleep(self._warm_up.seconds + _LISTING_CHECK_SECONDS)
        if registration.registered and registration.written is not None:
            try:
                await warn_if_listed_otherwise(self._registry, registration.written)
            except ServiceRegistryError as error:
                logger.debug("%s; the listing is not checked", error)

    def _start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        # Numbered: an instance may be added twice.
        self._tasks.start(f"{name} #{next(self._task_ids)}", run)

    def _create_supervisor(self) -> TaskSupervisor:
        return TaskSupervisor("registrar")
