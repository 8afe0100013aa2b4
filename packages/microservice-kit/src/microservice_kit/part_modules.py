"""One part of a module on its own: only the configuration, or only the registry."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Unpack, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import ConfigCenter, ServiceRegistry

from .config.encryption import KeyProvider
from .config.service import ConfigService
from .module import AnyConfig, MicroserviceModule
from .open_module import OpenModule
from .options import ModuleOptions, RegistryOptions, SettingsOptions
from .sync_open_module import SyncOpenModule

__all__ = ("ConfigCenterModule", "ServiceRegistryModule")

ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)


class ConfigCenterModule(Generic[ModelT]):
    """Opens a configuration center and reads the configuration; registers and calls nothing.

    `async with ConfigCenterModule("nacos", config=AppConfig) as config:` returns the
    `ConfigService`; so does `with`, for code without an event loop.

    Args:
        config_center: the name of an installed provider, or an object that is one.
        config, config_keys, options: as for `MicroserviceModule`.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        config_center: str | ConfigCenter,
        *,
        config: type[ModelT] | None = None,
        config_keys: KeyProvider | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        own_options: ModuleOptions = {
            "config_center": config_center,
            "config_keys": config_keys,
            "service_registry": "",  # not the one of the environment either
            "register": False,
        }
        self._module = MicroserviceModule(config=config, **_merge(options, own_options))

    async def __aenter__(self) -> ConfigService[ModelT]:
        return (await self._module.__aenter__()).config

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._module.__aexit__(exc_type, exc, tb)

    def __enter__(self) -> ConfigService[ModelT]:
        return self._module.__enter__().config

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._module.__exit__(exc_type, exc, tb)


class ServiceRegistryModule:
    """Opens a registry and registers the service; reads no configuration center.

    `async with ServiceRegistryModule("nacos", service_name="orders", port=8000) as module:` has
    `service_registry`, `service_client`, `registrations` and `health`; so does `with`.

    Args:
        service_registry: the name of an installed provider, or an object that is one.
        options: as for `MicroserviceModule`; `register=False` only discovers and calls services.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self, service_registry: str | ServiceRegistry, **options: Unpack[RegistryOptions]
    ) -> None:
        own_options: ModuleOptions = {
            "service_registry": service_registry,
            "config_center": "",  # not the one of the environment either
        }
        self._module: MicroserviceModule[AnyConfig] = MicroserviceModule(
            **_merge(options, own_options)
        )

    async def __aenter__(self) -> OpenModule[AnyConfig]:
        return await self._module.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._module.__aexit__(exc_type, exc, tb)

    def __enter__(self) -> SyncOpenModule[AnyConfig]:
        return self._module.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._module.__exit__(exc_type, exc, tb)


def _merge(options: SettingsOptions, own_options: ModuleOptions) -> ModuleOptions:
    """Merge the caller's options with those of a part module, which win."""
    return cast(ModuleOptions, {**options, **own_options})
