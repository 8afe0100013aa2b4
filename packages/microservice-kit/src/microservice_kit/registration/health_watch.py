"""Health decides over rotation: an instance that is not ready takes no calls until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from microservice_core import MicroserviceError, TaskSupervisor
from microservice_kit.config.service import ConfigService
from microservice_kit.health.checks import Health

from .registrar import Registrar

__all__ = ("watch_health",)


class ConfigDegradedError(MicroserviceError):
    """The configuration in use is not the configuration center's."""


class NotRegisteredError(MicroserviceError):
    """A service of this process is not in the registry."""


def watch_health(
    health: Health,
    config: ConfigService[BaseModel],
    registrar: Registrar | None,
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
    health.add("config", lambda: _check_config(config), critical=False)
    if registrar is not None:
        health.add("service_registry", lambda: _check_registrations(registrar), critical=False)
    health.started = True

    async def update_rotation() -> None:
        while True:
            await sleep(every_seconds)
            is_ready = await health.ready()
            # While it drains the instance is deregistered: a write would bring it back.
            if registrar is not None and not health.draining:
                await registrar.set_in_rotation(is_ready)

    tasks.start("health", update_rotation)


async def _check_config(config: ConfigService[BaseModel]) -> str:
    if config.problem is not None:
        raise config.problem
    if config.degraded:
        raise ConfigDegradedError(
            "a document could not be read from the configuration center; "
            f"the configuration in use comes from: {config.version.origin}"
        )
    missing = f"; absent: {', '.join(config.missing)}" if config.missing else ""
    return f"version {config.version.id}{missing}"


async def _check_registrations(registrar: Registrar) -> str:
    registrations = registrar.registrations
    own_registrations = [registration for registration in registrations if registration.lock.held]
    missing = [registration for registration in own_registrations if not registration.registered]
    if missing:
        names = ", ".join(registration.instance.service_name for registration in missing)
        raise NotRegisteredError(f"not registered yet: {names}")
    others = len(registrations) - len(own_registrations)
    return f"{len(own_registrations)} registered" + (
        f", {others} by another process" if others else ""
    )
