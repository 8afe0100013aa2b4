"""Finding a provider by name among the installed packages, and opening it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Literal, cast

from .config import ConfigCenter
from .errors import InvalidValueError, ProviderNotFoundError
from .registry import ServiceRegistry

__all__ = (
    "ConfigCenterProvider",
    "ServiceRegistryProvider",
    "Settings",
    "find_provider",
    "open_config_center",
    "open_service_registry",
    "refuse_unknown_settings",
)

Settings = Mapping[str, object]
ConfigCenterProvider = Callable[[Settings], AbstractAsyncContextManager[ConfigCenter]]
ServiceRegistryProvider = Callable[[Settings], AbstractAsyncContextManager[ServiceRegistry]]
Port = Literal["config_center", "service_registry"]

NO_SETTINGS: Settings = MappingProxyType({})


@cache
def _installed(port: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"microservice.{port}")}


def find_provider(port: Port, name: str) -> EntryPoint:
    """The entry point of group `microservice.{port}` with that name.

    Raises:
        ProviderNotFoundError: no installed package declares it; the error lists those that are.
    """
    found = _installed(port).get(name)
    if found is None:
        _installed.cache_clear()  # something may have been installed since
        found = _installed(port).get(name)
    if found is None:
        raise ProviderNotFoundError(port, name, sorted(_installed(port)))
    return found


@asynccontextmanager
async def open_service_registry(
    name: str, settings: Settings = NO_SETTINGS
) -> AsyncIterator[ServiceRegistry]:
    """Open the registry provider of that name; leaving the block closes it.

    Raises:
        ProviderNotFoundError: no such provider is installed.
        InvalidValueError: the provider refuses a setting.
        ServiceRegistryError: the provider cannot be opened.
    """
    provider = cast(ServiceRegistryProvider, find_provider("service_registry", name).load())
    async with provider(settings) as registry:
        yield registry


@asynccontextmanager
async def open_config_center(
    name: str, settings: Settings = NO_SETTINGS
) -> AsyncIterator[ConfigCenter]:
    """Open the configuration center provider of that name; leaving the block closes it.

    Raises:
        ProviderNotFoundError: no such provider is installed.
        InvalidValueError: the provider refuses a setting.
        ConfigCenterError: the provider cannot be opened.
    """
    provider = cast(ConfigCenterProvider, find_provider("config_center", name).load())
    async with provider(settings) as center:
        yield center


def refuse_unknown_settings(provider: str, settings: Settings, known: tuple[str, ...]) -> None:
    """For providers: a misspelt setting is an error, never ignored.

    Raises:
        InvalidValueError: a key is not in `known`.
    """
    for key in settings:
        if key not in known:
            rule = f"one of {', '.join(known)}" if known else "absent: there are no settings"
            raise InvalidValueError(f"setting of provider {provider!r}", key, rule)
