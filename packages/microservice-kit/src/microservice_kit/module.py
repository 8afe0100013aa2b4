"""MicroserviceModule: opens the parts of an application, registers it, closes in reverse order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, Unpack, cast

import typing_extensions
from pydantic import BaseModel, ConfigDict

from microservice_core import (
    ConfigCenter,
    InstanceFilter,
    InstanceQuery,
    InvalidValueError,
    LoopThread,
    MissingDependencyError,
    ServiceRegistry,
    TaskSupervisor,
    open_config_center,
    open_service_registry,
)

from .calls.lanes import create_lane_parts
from .calls.lazy_client import LazyServiceClient
from .config.documents import ConfigSnapshot, DocumentReader, add_profiles
from .config.encryption import ConfigEncryption
from .config.service import ConfigService
from .context.current import enter_module, exit_module, notify_module_listeners
from .context.values import declared_documents
from .graceful_stop import GracefulStop
from .lazy_container import LazyContainer, PartName
from .open_module import ModuleParts, OpenModule
from .options import ModuleOptions
from .registration.declared_services import declared_services, describe_own_service
from .registration.health_watch import watch_health
from .registration.registrar import Registrar
from .settings import MicroserviceSettings, read_settings, refuse_unknown_options
from .sync_open_module import SyncOpenModule

if TYPE_CHECKING:
    from microservice_client import ClientOptions, Interceptor, RequestInterceptor

    from .calls.lazy_client import Transport
    from .container import MicroserviceContainer
    from .log_levels import LogLevels

__all__ = ("AnyConfig", "MicroserviceModule")

_RECENT_CALLS = 100
_RECENT_CALLS_ON_STATUS_PAGE = 200

# The options that are no settings, and those that are settings only as a provider's name.
_CODE_OPTIONS = frozenset(
    {
        "config_keys",
        "default_policy",
        "fallbacks",
        "interceptors",
        "lanes",
        "policies",
        "register",
        "transport",
    }
)
# Those of `Microservice` as well, so that a misspelt one is recognized.
_ALL_OPTIONS = _CODE_OPTIONS | {"app", "config", "error_responses", "management", "telemetry"}
_PROVIDERS = frozenset({"config_center", "service_registry"})

PortT = TypeVar("PortT")


class AnyConfig(BaseModel):
    """Stands in when the application brings no model: every key is an attribute."""

    model_config = ConfigDict(extra="allow")


ModelT = typing_extensions.TypeVar("ModelT", bound=BaseModel, default=AnyConfig)


class MicroserviceModule(Generic[ModelT]):
    """Opens a configuration center, a registry and a service client, each only when asked for.

    `async with MicroserviceModule(...) as module:` opens in order: configuration center,
    configuration, registry, registration; the service client soon afterwards, or when it is first
    used. Leaving the block, or a failure on the way, closes what was opened in reverse order: the
    instance is deregistered before anything else ends (`stop_order` has the whole order).
    `with MicroserviceModule(...) as module:` does the same for code without an event loop.

    Args:
        config: the model of the application's configuration.
        options: see `ModuleOptions`; every field of `MicroserviceSettings` is one, and the
            environment fills those that are missing.

    Attributes:
        settings: the settings as they were read.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self, *, config: type[ModelT] | None = None, **options: Unpack[ModuleOptions]
    ) -> None:
        refuse_unknown_options(options, _ALL_OPTIONS)
        if config is not None and not _is_model(config):
            raise InvalidValueError("config", config, "a class that is a pydantic BaseModel")
        self.settings = read_settings(_select_settings(options))
        center, registry = options.get("config_center"), options.get("service_registry")
        self._config_center = None if isinstance(center, str) else center
        self._service_registry = None if isinstance(registry, str) else registry
        self._model = cast(type[ModelT], config or AnyConfig)
        self._lanes = options.get("lanes")
        self._calls = options
        self._register = options.get("register", True)
        keys = options.get("config_keys")
        self._encryption = ConfigEncryption(keys) if keys else ConfigEncryption()
        self._container = LazyContainer()
        self._container.readers["transport"] = lambda: options.get("transport")
        self._stack: AsyncExitStack | None = None
        self._loop: LoopThread | None = None
        self._graceful_stop: GracefulStop | None = None

    @property
    def container(self) -> MicroserviceContainer:
        """The dependency-injector container of the module's parts, also before it opens.

        What is overridden before is what the module opens with: in a test, an in-memory
        configuration center, registry or transport in place of the real one.
        """
        return self._container.get()

    async def __aenter__(self) -> OpenModule[ModelT]:
        async with AsyncExitStack() as stack:
            center = await self._open_config_center(stack)
            module = OpenModule(
                own_config=await self._open_config(stack, center),
                parts=ModuleParts(config_center=center, container=self._container),
                leave_seconds=self.settings.leave_seconds,
            )
            self._provide_parts(module)
            stack.push_async_callback(module.health.aclose)
            _make_current(stack, module)
            _follow_log_levels(stack, module.own_config)
            await _load_declared_documents(module)
            await self._open_redis(stack, module)
            await self._open_registry_parts(stack, module)
            tasks = await stack.enter_async_context(TaskSupervisor("microservice-kit"))
            await self._start_registration(module, tasks)
            watch_health(
                module.health,
                module.own_config,
                module.parts.registrar,
                tasks,
                every_seconds=self.settings.health_seconds,
            )
            _prepare_client(module.parts.service_client, tasks)
            self._stack = stack.pop_all()
        return module

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(exc_type, exc, tb)

    def __enter__(self) -> SyncOpenModule[ModelT]:
        """Open it on a private loop in its own thread, for code without an event loop.

        In the main thread SIGTERM first deregisters, then reaches the handler that was installed
        before. After a fork the child opens its own module: this thread stays in the parent.
        """
        loop = LoopThread(name="microservice-kit")
        loop.start()
        try:
            module = loop.run(self.__aenter__())
        except BaseException:
            loop.close()
            raise
        self._loop = loop
        if module.registrations:
            self._graceful_stop = GracefulStop(module.leave).install(loop)
        return SyncOpenModule(module, loop)

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

    # opening

    def _find_override(self, name: PartName) -> object:
        return self._container.find_override(name) if self._container.made else None

    def _provide_parts(self, module: OpenModule[ModelT]) -> None:
        """Let the container return the parts of the open module."""
        parts = module.parts

        def get_client() -> object:
            return parts.service_client.get() if parts.service_client is not None else None

        self._container.readers |= {
            "config": lambda: module.own_config,
            "config_center": lambda: parts.config_center,
            "service_registry": lambda: parts.service_registry,
            "service_client": get_client,
        }

    async def _open_config_center(self, stack: AsyncExitStack) -> ConfigCenter | None:
        override = self._find_override("config_center")
        if override is not None:
            return cast(ConfigCenter, override)
        name = self.settings.config_center
        if self._config_center is not None or not name:
            return self._config_center
        provider = open_config_center(name, self.settings.config_center_settings)
        return await _enter_provider(stack, provider, "config_center", name)

    async def _open_config(
        self, stack: AsyncExitStack, center: ConfigCenter | None
    ) -> ConfigService[ModelT]:
        settings = self.settings
        snapshot = ConfigSnapshot(settings.config_snapshot) if settings.config_snapshot else None
        documents: Sequence[str] = ()
        reader = None
        if center is not None:
            documents = _list_documents(settings)
            reader = DocumentReader(
                center,
                on_unavailable=settings.on_config_unavailable,
                wait_seconds=settings.config_wait_seconds,
                snapshot=snapshot,
            )
        service = ConfigService(
            self._model,
            center,
            documents,
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

    async def _open_redis(self, stack: AsyncExitStack, module: OpenModule[ModelT]) -> None:
        if url := self.settings.redis_url.get_secret_value():
            from .health.redis_check import open_redis, redis_check

            module.parts.redis = await stack.enter_async_context(open_redis(url))
            check = await stack.enter_async_context(redis_check(url))
            # Every replica loses the same Redis at the same moment: taking them all out of rotation
            # would turn a degraded service into none.
            module.health.add("redis", check, critical=False)

    async def _open_registry_parts(self, stack: AsyncExitStack, module: OpenModule[ModelT]) -> None:
        """Open the registry, if there is one, and the client and registrar that use it."""
        registry = await self._open_service_registry(stack)
        if registry is None:
            return
        settings, parts = self.settings, module.parts
        parts.service_registry = registry
        client = LazyServiceClient(registry, module.own_config, self._client_options())
        stack.push_async_callback(client.aclose)
        parts.service_client = client
        registrar = Registrar(
            registry,
            on_unavailable=settings.on_registry_unavailable,
            wait_seconds=settings.registry_wait_seconds,
            warm_up_seconds=settings.warm_up_seconds,
        )
        stack.push_async_callback(registrar.aclose)
        parts.registrar = registrar

    async def _open_service_registry(self, stack: AsyncExitStack) -> ServiceRegistry | None:
        override = self._find_override("service_registry")
        if override is not None:
            return cast(ServiceRegistry, override)
        name = self.settings.service_registry
        if self._service_registry is not None or not name:
            return self._service_registry
        provider = open_service_registry(name, self.settings.service_registry_settings)
        return await _enter_provider(stack, provider, "service_registry", name)

    def _client_options(self) -> ClientOptions:
        settings = self.settings
        has_page = settings.status_page
        filters: list[InstanceFilter] = []
        interceptors: list[Interceptor | RequestInterceptor] = []
        if self._lanes is not None:
            filters, lane_interceptors = create_lane_parts(self._lanes, label_calls=has_page)
            interceptors += lane_interceptors
        transport = self._find_override("transport") or self._calls.get("transport")
        return {
            "policies": self._calls.get("policies"),
            "default_policy": self._calls.get("default_policy"),
            "fallbacks": self._calls.get("fallbacks", {}),
            "filters": filters,
            "interceptors": [*interceptors, *self._calls.get("interceptors", ())],
            "transport": cast("Transport | None", transport),
            "keep_calls": _RECENT_CALLS_ON_STATUS_PAGE if has_page else _RECENT_CALLS,
            "instance_metrics": settings.instance_metrics,
            "query": InstanceQuery(
                group_name=settings.group_name, namespace_id=settings.namespace_id
            ),
        }

    # registering

    async def _start_registration(self, module: OpenModule[ModelT], tasks: TaskSupervisor) -> None:
        """Register now. `Microservice` overrides it, to wait until its server listens.

        Args:
            tasks: runs what has to wait; closed before anything else is.
        """
        await self._register_services(module, self.settings.port)

    async def _register_services(
        self, module: OpenModule[ModelT], port: int | None, *, patient: bool = False
    ) -> None:
        """Register the module's own service on this port, and those that were declared."""
        registrar, registry = module.parts.registrar, module.parts.service_registry
        if registrar is None or registry is None or not self._register:
            return
        own_service = describe_own_service(self.settings, port)
        for service in (own_service, *declared_services()):
            if service is None:
                continue
            instance = service.create_instance(self.settings, registry)
            if service is own_service:
                module.instance = instance
            await registrar.add(instance, patient=patient)


def _is_model(config: object) -> bool:
    return isinstance(config, type) and issubclass(config, BaseModel)


def _select_settings(options: ModuleOptions) -> dict[str, object]:
    """Return the options that are settings; a provider that is an object is none."""
    return {
        name: value
        for name, value in options.items()
        if name not in _CODE_OPTIONS and (name not in _PROVIDERS or isinstance(value, str))
    }


def _make_current(stack: AsyncExitStack, module: OpenModule[BaseModel]) -> None:
    stack.callback(module.own_config.follow(notify_module_listeners))
    enter_module(module)
    stack.callback(exit_module, module)


def _follow_log_levels(stack: AsyncExitStack, config: ConfigService[BaseModel]) -> None:
    """Apply `logging.level`; nothing is imported for it before there is such a key."""
    levels: LogLevels | None = None

    def refresh() -> None:
        nonlocal levels
        data = config.version.data
        if levels is None and any(key.partition(".")[0] == "logging" for key in data):
            from .log_levels import LogLevels

            levels = LogLevels(config)
        if levels is not None:
            levels.refresh()

    stack.callback(lambda: levels.restore() if levels is not None else None)
    stack.callback(config.follow(refresh))
    refresh()


async def _load_declared_documents(module: OpenModule[BaseModel]) -> None:
    """Read the documents of every `ConfigCenterValue` before the application uses one."""
    if module.parts.config_center is not None:
        for document_id in declared_documents():
            await module.own_config.load(document_id)


def _prepare_client(client: LazyServiceClient | None, tasks: TaskSupervisor) -> None:
    """Open the client in the background, so that the first call does not wait for imports."""
    if client is not None:

        async def prepare() -> None:
            await client.prepare()

        tasks.start("service client", prepare)


def _list_documents(settings: MicroserviceSettings) -> Sequence[str]:
    documents = settings.documents or (f"{settings.service_name or 'application'}.yaml",)
    return add_profiles(documents, settings.profiles)


async def _enter_provider(
    stack: AsyncExitStack, provider: AbstractAsyncContextManager[PortT], port: str, name: str
) -> PortT:
    try:
        return await stack.enter_async_context(provider)
    except ImportError as error:
        if isinstance(error, MissingDependencyError):
            raise
        raise MissingDependencyError(f"{port} {name!r}", f"microservice-kit[{name}]") from error
