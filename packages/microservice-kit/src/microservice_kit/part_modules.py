"""One part of a module on its own: only the configuration, or only the registry."""

from __future__ import annotations

from types import TracebackType
from typing import Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import ConfigCenter, ServiceRegistry

from .config.encryption import KeyProvider
from .config.service import ConfigService
from .module import AnyConfig, MicroserviceModule
from .services import Services
from .sync_services import SyncServices

__all__ = ("ConfigCenterModule", "ServiceRegistryModule")

ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)


class ConfigCenterModule(Generic[ModelT]):
    """Opens a configuration center and reads the configuration; nothing is registered or called.

    `async with ConfigCenterModule("nacos", config=AppConfig) as config:` hands over the
    `ConfigService`; so does `with`, for code without an event loop.

    Args:
        config_center: the name of an installed provider, or an object that is one.
        config, config_keys, settings: as for `MicroserviceModule`.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        config_center: str | ConfigCenter,
        *,
        config: type[ModelT] | None = None,
        config_keys: KeyProvider | None = None,
        **settings: object,
    ) -> None:
        self._module = MicroserviceModule(
            config_center=config_center,
            config=config,
            config_keys=config_keys,
            register=False,
            **{**settings, "service_registry": ""},  # type: ignore[arg-type] # not from elsewhere
        )

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
    """Opens a registry and registers the service; no configuration center is asked.

    `async with ServiceRegistryModule("nacos", service_name="orders", port=8000) as services:` has
    `service_registry`, `service_client`, `registrations` and `health`; so does `with`.

    Args:
        service_registry: the name of an installed provider, or an object that is one.
        register: False only finds and calls others.
        settings: as for `MicroserviceModule`.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        service_registry: str | ServiceRegistry,
        *,
        register: bool = True,
        **settings: object,
    ) -> None:
        self._module: MicroserviceModule[AnyConfig] = MicroserviceModule(
            service_registry=service_registry,
            register=register,
            **{**settings, "config_center": ""},  # type: ignore[arg-type] # not from elsewhere
        )

    async def __aenter__(self) -> Services[AnyConfig]:
        return await self._module.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._module.__aexit__(exc_type, exc, tb)

    def __enter__(self) -> SyncServices[AnyConfig]:
        return self._module.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._module.__exit__(exc_type, exc, tb)
