"""Finds a provider by name among the installed packages, and opens it."""

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

_NO_SETTINGS: Settings = MappingProxyType({})


@cache
def _installed_providers(port: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"microservice.{port}")}


def find_provider(port: Port, name: str) -> EntryPoint:
    """The entry point `name` of the group `microservice.{port}`.

    Raises:
        ProviderNotFoundError: no installed package declares it; the error lists the installed ones.
    """
    provider = _installed_providers(port).get(name)
    if provider is None:
        _installed_providers.cache_clear()  # one may have been installed meanwhile
        provider = _installed_providers(port).get(name)
    if provider is None:
        raise ProviderNotFoundError(port, name, sorted(_installed_providers(port)))
    return provider


@asynccontextmanager
async def open_service_registry(
    name: str, settings: Settings = _NO_SETTINGS
) -> AsyncIterator[ServiceRegistry]:
    """Open the registry provider `name`; leaving the block closes it.

    Args:
        settings: for the provider, which validates them.

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
    name: str, settings: Settings = _NO_SETTINGS
) -> AsyncIterator[ConfigCenter]:
    """Open the configuration center provider `name`; leaving the block closes it.

    Args:
        settings: for the provider, which validates them.

    Raises:
        ProviderNotFoundError: no such provider is installed.
        InvalidValueError: the provider refuses a setting.
        ConfigCenterError: the provider cannot be opened.
    """
    provider = cast(ConfigCenterProvider, find_provider("config_center", name).load())
    async with provider(settings) as center:
        yield center


def refuse_unknown_settings(provider: str, settings: Settings, names: tuple[str, ...]) -> None:
    """Check the names of a provider's settings, so that a misspelt one is not ignored.

    Every provider calls this before it reads its settings.

    Args:
        provider: name of the provider, for the message.
        settings: what the user has set.
        names: the settings that the provider reads.

    Raises:
        InvalidValueError: a setting is not in `names`.
    """
    for key in settings:
        if key not in names:
            rule = f"one of {', '.join(names)}" if names else "absent: there are no settings"
            raise InvalidValueError(f"setting of provider {provider!r}", key, rule)
