"""Health decides over rotation: an instance that is not ready takes no calls until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from microservice_core import MicroserviceError, TaskSupervisor
from microservice_kit.open_module import OpenModule

__all__ = ("watch_health",)


class ConfigDegradedError(MicroserviceError):
    """The configuration in use is not the configuration center's."""


class NotRegisteredError(MicroserviceError):
    """A service of this process is not in the registry."""


def watch_health(
    module: OpenModule[BaseModel],
    tasks: TaskSupervisor,
    *,
    every_seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Add the module's own checks, and let the critical ones decide over rotation.

    Args:
        tasks: the owner of the background task.
        every_seconds: how often they decide.
    """
    health = module.health
    health.add("config", lambda: _check_config(module), critical=False)
    if module.parts.registrar is not None:
        health.add("service_registry", lambda: _check_registrations(module), critical=False)
    health.started = True
    tasks.start("health", lambda: _update_rotation(module, every_seconds, sleep))


async def _update_rotation(
    module: OpenModule[BaseModel],
    every_seconds: float,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    while True:
        await sleep(every_seconds)
        is_ready = await module.health.ready()
        registrar = module.parts.registrar
        # While it drains the instance is deregistered: a write would bring it back.
        if registrar is not None and not module.health.draining:
            await registrar.set_in_rotation(is_ready)


async def _check_config(module: OpenModule[BaseModel]) -> str:
    config = module.config
    if config.problem is not None:
        raise config.problem
    if config.degraded:
        raise ConfigDegradedError(
            "a document could not be read from the configuration center; "
            f"the configuration in use comes from: {config.version.origin}"
        )
    return f"version {config.version.id}"


async def _check_registrations(module: OpenModule[BaseModel]) -> str:
    own_registrations = [registration for registration in module.registrations if registration.lock.held]
    missing = [registration for registration in own_registrations if not registration.registered]
    if missing:
        names = ", ".join(registration.instance.service_name for registration in missing)
        raise NotRegisteredError(f"not registered yet: {names}")
    others = len(module.registrations) - len(own_registrations)
    return f"{len(own_registrations)} registered" + (f", {others} by another process" if others else "")
