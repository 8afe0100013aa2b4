"""Health decides over rotation: an instance that is not well takes no calls until it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from microservice_core import MicroserviceError

if TYPE_CHECKING:
    from microservice_kit.services import AnyServices

__all__ = ("watch_health",)


class ConfigDegradedError(MicroserviceError):
    """The configuration in force is not the center's."""


class NotRegisteredError(MicroserviceError):
    """A service of this process is not in the registry."""


def watch_health(
    stack: AsyncExitStack,
    services: AnyServices,
    *,
    every_seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Add the module's own checks, and let the critical ones decide over rotation."""
    health = services.health
    health.add("config", lambda: _config(services), critical=False)
    if services.opened_registrar is not None:
        health.add("service_registry", lambda: _registration(services), critical=False)
    health.started = True
    task = asyncio.ensure_future(_follow(services, every_seconds, sleep))
    stack.push_async_callback(_ended, task)


async def _follow(
    services: AnyServices,
    every_seconds: float,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    while True:
        await sleep(every_seconds)
        well = await services.health.ready()
        registrar = services.opened_registrar
        if registrar is not None and not services.health.draining:
            await registrar.set_in_rotation(well)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _config(services: AnyServices) -> str:
    config = services.config
    if config.problem is not None:
        raise config.problem
    if config.degraded:
        raise ConfigDegradedError(
            f"the configuration center could not be read; {config.version.origin} is in force"
        )
    return f"version {config.version.id}"


async def _registration(services: AnyServices) -> str:
    here = [one for one in services.registrations if one.turn.held]
    missing = [one for one in here if not one.registered]
    if missing:
        names = ", ".join(one.instance.service_name for one in missing)
        raise NotRegisteredError(f"not registered yet: {names}")
    elsewhere = len(services.registrations) - len(here)
    return f"{len(here)} registered" + (f", {elsewhere} by another process" if elsewhere else "")
