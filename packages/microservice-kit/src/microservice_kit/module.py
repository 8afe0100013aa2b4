"""MicroserviceModule: opens what an application asked for, registers it, closes in reverse."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, cast

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from microservice_core import (
    ConfigCenter,
    InstanceQuery,
    LoopThread,
    MissingDependencyError,
    ServiceRegistry,
    Unsubscribe,
    open_config_center,
    open_service_registry,
)

from .calls.lanes import lane_parts
from .calls.lazy_client import LazyServiceClient
from .config.documents import ConfigSnapshot, DocumentReader, with_profiles
from .config.encryption import ConfigEncryption, KeyProvider
from .config.service import ConfigService
from .current import enter_module, leave_module, tell_modules
from .registration.declared_services import DeclaredService, declared_services
from .registration.health_watch import watch_health
from .registration.registrar import Registrar
from .services import AnyServices, Services
from .settings import MicroserviceSettings, read_settings
from .sync_services import SyncServices
from .web.graceful_stop import GracefulStop

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient, ServicePolicy

__all__ = ("MicroserviceModule",)

logger = logging.getLogger(__name__)

CALLS_KEPT = 100
CALLS_SHOWN = 200  # with the status page

PortT = TypeVar("PortT")
LaneMode = Literal["permissive", "strict"]


class AnyConfig(BaseModel):
    """Stands in when the application brings no model: every key is an attribute."""

    model_config = ConfigDict(extra="allow")


ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)


class MicroserviceModule(Generic[ModelT]):
    """Opens a configuration center, a registry and a service client, each only when asked for.

    `async with MicroserviceModule(...) as services:` opens in order: configuration center,
    configuration, registry, registration; the service client soon after, or when it is first asked
    for. Leaving the block, or a failure half-way, closes what was opened in reverse: the instance
    is deregistered before anything else ends.
    `with MicroserviceModule(...) as services:` does the same for code without an event loop.

    Args:
        config_center: the name of an installed provider, or an object that is one.
        service_registry: the same for the registry; it also enables `services.service_client`.
        config: the model of the application's configuration.
        lanes: choose instances of the current lane, `permissive` or `strict`; needs the extra
            `lanes`. None does not look at lanes.
        policies: behaviour of calls by service name.
        register: False keeps a service with a name and a port unregistered.
        config_keys: gives the keys of `ENC(...)` values; by default the environment does.
        settings: every field of `MicroserviceSettings`; the environment fills what is missing.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        *,
        config_center: str | ConfigCenter | None = None,
        service_registry: str | ServiceRegistry | None = None,
        config: type[ModelT] | None = None,
        lanes: LaneMode | None = None,
        policies: Mapping[str, ServicePolicy] | None = None,
        register: bool = True,
        config_keys: KeyProvider | None = None,
        **settings: object,
    ) -> None:
        named = {"config_center": config_center, "service_registry": service_registry}
        names = {port: value for port, value in named.items() if isinstance(value, str)}
        self.settings = read_settings({**settings, **names})
        self._config_center = config_center if not isinstance(config_center, str) else None
        self._service_registry = service_registry if not isinstance(service_registry, str) else None
        self._model = cast(type[ModelT], config or AnyConfig)
        self._lanes = lanes
        self._policies = policies
        self._register = register
        self._encryption = ConfigEncryption(config_keys) if config_keys else ConfigEncryption()
        self._stack: AsyncExitStack | None = None
        self._loop: LoopThread | None = None
        self._graceful_stop: GracefulStop | None = None

    async def __aenter__(self) -> Services[ModelT]:
        async with AsyncExitStack() as stack:
            center = await self._open_config_center(stack)
            services = Services(
                opened_config=await self._open_config(stack, center),
                opened_config_center=center,
                leave_seconds=self.settings.leave_seconds,
            )
            stack.push_async_callback(services.health.aclose)
            self._enter(stack, services)
            await self._load_declared(services)
            await self._check_redis(stack, services)
            registry = await self._open_service_registry(stack)
            if registry is not None:
                services.opened_service_registry = registry
                services.lazy_service_client = self._lazy_client(stack, registry, services.config)
                services.opened_registrar = self._open_registrar(stack, registry)
                await self._announce(stack, services)
            watch_health(
                stack, cast(AnyServices, services), every_seconds=self.settings.health_seconds
            )
            _prepare_soon(stack, services.lazy_service_client)
            self._stack = stack.pop_all()
        return services

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(exc_type, exc, tb)

    def _enter(self, stack: AsyncExitStack, services: Services[ModelT]) -> None:
        stack.callback(services.config.follow(tell_modules))
        opened = cast(AnyServices, services)
        enter_module(opened)
        stack.callback(leave_module, opened)

    async def _load_declared(self, services: Services[ModelT]) -> None:
        """Read what `ConfigCenterValue` attributes need, where there are any."""
        values = sys.modules.get("microservice_kit.config.values")
        if values is not None and services.opened_config_center is not None:
            for where in values.declared_documents():
                await services.config.load(where)

    def __enter__(self) -> SyncServices[ModelT]:
        """Open it on a private loop in a thread of its own, for code without an event loop.

        In the main thread SIGTERM leaves the registry first, then goes on to whoever had it before.
        After a fork the child opens a module of its own: this one's thread stays behind.
        """
        loop = LoopThread(name="microservice-kit")
        loop.start()
        try:
            services = loop.run(self.__aenter__())
        except BaseException:
            loop.close()
            raise
        self._loop = loop
        if services.registrations:
            self._graceful_stop = GracefulStop(services.leave).install(loop)
        return SyncServices(services, loop)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        loop, self._loop = self._loop, None
        if self._graceful_stop is not None:
            self._graceful_stop.uninstall()
        if loop is not None and loop.running:
            try:
                loop.run(self.__aexit__(None, None, None))
            finally:
                loop.close()

    async def _check_redis(self, stack: AsyncExitStack, services: Services[ModelT]) -> None:
        if url := self.settings.redis_url.get_secret_value():
            from .health.redis_check import redis_check

            check = await stack.enter_async_context(redis_check(url))
            # All replicas lose it at once: taking them all out of rotation would help nobody.
            services.health.add("redis", check, critical=False)

    async def _open_config_center(self, stack: AsyncExitStack) -> ConfigCenter | None:
        name = self.settings.config_center
        if self._config_center is not None or not name:
            return self._config_center
        opening = open_config_center(name, self.settings.config_center_settings)
        return await _entered(stack, opening, "config_center", name)

    async def _open_config(
        self, stack: AsyncExitStack, center: ConfigCenter | None
    ) -> ConfigService[ModelT]:
        settings = self.settings
        snapshot = ConfigSnapshot(settings.config_snapshot) if settings.config_snapshot else None
        reader = DocumentReader(
            center,
            on_unavailable=settings.on_config_unavailable,
            wait_seconds=settings.config_wait_seconds,
            snapshot=snapshot,
        )
        service = ConfigService(
            self._model,
            center,
            _documents_of(settings) if center is not None else (),
            group_name=settings.group_name,
            namespace_id=settings.namespace_id,
            env_prefix=settings.env_prefix,
            reader=reader,
            snapshot=snapshot,
            encryption=self._encryption,
        )
        stack.push_async_callback(service.close)
        await service.open()
        return service

    async def _open_service_registry(self, stack: AsyncExitStack) -> ServiceRegistry | None:
        name = self.settings.service_registry
        if self._service_registry is not None or not name:
            return self._service_registry
        opening = open_service_registry(name, self.settings.service_registry_settings)
        return await _entered(stack, opening, "service_registry", name)

    def _lazy_client(
        self,
        stack: AsyncExitStack,
        registry: ServiceRegistry,
        config: ConfigService[ModelT],
    ) -> LazyServiceClient:
        settings = self.settings
        filters, interceptors = lane_parts(self._lanes, label_calls=settings.status_page)

        def make() -> AsyncServiceClient:
            from microservice_client import AsyncServiceClient

            from .calls import call_policies  # noqa: F401 - what `opened` needs, imported here as well

            return AsyncServiceClient(
                registry,
                policies=self._policies,
                filters=filters,
                interceptors=interceptors,
                keep_calls=CALLS_SHOWN if settings.status_page else CALLS_KEPT,
                instance_metrics=settings.instance_metrics,
                query=InstanceQuery(
                    group_name=settings.group_name, namespace_id=settings.namespace_id
                ),
            )

        def opened(client: AsyncServiceClient) -> Unsubscribe:
            from .calls.call_policies import CallPolicies

            policies = CallPolicies(
                client, cast("ConfigService[BaseModel]", config), self._policies
            )
            policies.refresh()
            return config.follow(policies.refresh)

        lazy = LazyServiceClient(make, opened)
        stack.push_async_callback(lazy.aclose)
        return lazy

    def _open_registrar(self, stack: AsyncExitStack, registry: ServiceRegistry) -> Registrar:
        registrar = Registrar(
            registry,
            on_unavailable=self.settings.on_registry_unavailable,
            wait_seconds=self.settings.registry_wait_seconds,
            warm_up_seconds=self.settings.warm_up_seconds,
        )
        stack.push_async_callback(registrar.aclose)
        return registrar

    async def _announce(self, stack: AsyncExitStack, services: Services[ModelT]) -> None:
        """Register, now or when the time has come."""
        await self._register_all(services, self.settings.port)

    async def _register_all(
        self, services: Services[ModelT], port: int | None, *, patient: bool = False
    ) -> None:
        """Register the module's own instance, and those that were declared."""
        if not self._register:
            return
        own = _own_service(self.settings, port)
        if own is not None:
            instance = own.instance(self.settings, services.service_registry)
            services.instance = instance
            await services.register(instance, patient=patient)
        for declared in declared_services():
            instance = declared.instance(self.settings, services.service_registry)
            await services.register(instance, patient=patient)


def _prepare_soon(stack: AsyncExitStack, lazy: LazyServiceClient | None) -> None:
    """Have the client ready for the first call, which is not to wait for imports."""
    if lazy is not None:
        preparing = asyncio.create_task(lazy.prepare())
        stack.callback(preparing.cancel)


def _own_service(settings: MicroserviceSettings, port: int | None) -> DeclaredService | None:
    """What these settings describe; None without a service name or a port."""
    if not settings.service_name or port is None:
        return None
    return DeclaredService(
        settings.service_name,
        port,
        version=settings.version,
        lane=settings.lane,
        zone=settings.zone,
        weight=settings.weight,
        metadata=settings.metadata,
    )


def _documents_of(settings: MicroserviceSettings) -> Sequence[str]:
    documents = settings.documents or (f"{settings.service_name or 'application'}.yaml",)
    return with_profiles(documents, settings.profiles)


async def _entered(
    stack: AsyncExitStack, opening: AbstractAsyncContextManager[PortT], port: str, name: str
) -> PortT:
    try:
        return await stack.enter_async_context(opening)
    except ImportError as error:
        if isinstance(error, MissingDependencyError):
            raise
        raise MissingDependencyError(f"{port} {name!r}", f"microservice-kit[{name}]") from error
