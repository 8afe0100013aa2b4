"""The providers named `nacos`: each opens its own nacos-client and closes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from microservice_core import refuse_unknown_settings, warn_about_unknown_variables
from nacos_client import AsyncNacosClient, ClientOptions, Settings

from .config_center import NacosConfigCenter
from .errors import translate_invalid_values
from .service_registry import NacosServiceRegistry

__all__ = ("config_center", "service_registry")

_SETTING_NAMES = tuple(sorted(Settings.model_fields))
_VARIABLES = frozenset({"NACOS_CIPHER_KEYS", *(f"NACOS_{name.upper()}" for name in _SETTING_NAMES)})


@asynccontextmanager
async def config_center(settings: Mapping[str, object]) -> AsyncIterator[NacosConfigCenter]:
    """Open the provider `nacos` of the port `config_center`.

    The settings are nacos-client's (`server_addr`, `username`, `password`, `namespace`, ...);
    missing ones come from `NACOS_*` in the environment.

    Raises:
        InvalidValueError: a setting is unknown or breaks a rule.
    """
    async with _create_client(settings) as client:
        center = NacosConfigCenter(client)
        try:
            yield center
        finally:
            await center.close()


@asynccontextmanager
async def service_registry(settings: Mapping[str, object]) -> AsyncIterator[NacosServiceRegistry]:
    """Open the provider `nacos` of the port `service_registry`; settings as for `config_center`.

    Raises:
        InvalidValueError: a setting is unknown or breaks a rule.
    """
    async with _create_client(settings) as client:
        registry = NacosServiceRegistry(client)
        try:
            yield registry
        finally:
            await registry.close()


def _create_client(settings: Mapping[str, object]) -> AsyncNacosClient:
    refuse_unknown_settings("nacos", settings, _SETTING_NAMES)
    warn_about_unknown_variables("NACOS_", _VARIABLES)
    options = dict(settings)
    server_addr = options.pop("server_addr", None)
    with translate_invalid_values():
        return AsyncNacosClient(cast(str | None, server_addr), **cast(ClientOptions, options))
