"""What both clients share: every part of a client, wired, and nothing that blocks or awaits."""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from ._address_server import AddressServer
from ._background import Background
from ._config import ConfigKey, ConfigOperations
from ._config_watch import ConfigState, ConfigWatches
from ._config_watch import is_news as is_config_news
from ._delivery import Delivery, Listener
from ._heartbeat import Heartbeats
from ._instance_watch import InstanceWatches, ServiceState, list_for
from ._instance_watch import is_news as is_instance_news
from ._login import Login
from ._naming import NamingOperations, ServiceKey, checked_registration
from ._servers import Servers, base_url
from ._session import Session
from ._snapshots import FailoverFolder, Snapshots
from ._steps import Operation, Wait
from ._telemetry import telemetry
from ._transport import AsyncRunner, TransportOptions
from .errors import ClientClosedError, InvalidArgumentError, NacosError
from .models import BeatStatus, Config, ConfigDeleted, Instance, InstanceList, Registration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import Future

    from ._admin import ConfigAdmin
    from ._server_admin import ServerAdmin
    from .settings import Settings

__all__ = ("Core",)

S = TypeVar("S")

CLOSE_SECONDS = 2.0
REFUSAL_PAUSES = (0.5, 1.0, 2.0)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Core:
    """One client's parts. Operations are run by whoever owns it, watches by the background."""

    def __init__(self, settings: Settings, *, sync: bool) -> None:
        rng = random.Random()
        clock = time.monotonic
        self.settings = settings
        self.options: TransportOptions = _transport_options(settings)
        self.session: Session = _session(settings, rng)
        _sessions.add(self.session)
        origin = (*settings.server_addr, settings.endpoint)
        self.config: ConfigOperations = ConfigOperations(
            self.session,
            Snapshots(settings.snapshot_dir, origin),
            FailoverFolder(settings.failover_dir),
            settings.ciphers,
        )
        self.naming: NamingOperations = NamingOperations(self.session, clock=clock, rng=rng)
        runner = AsyncRunner(self.options)
        self.background: Background = Background("nacos-client", runner.aclose)
        self.heartbeats: Heartbeats = Heartbeats(self.naming, runner.run, clock=clock, rng=rng)
        self.config_watches: ConfigWatches = ConfigWatches(
            self.config,
            (lambda: self.config_admin) if settings.config_sweep else None,
            runner.run,
            self.background,
            poll_seconds=settings.config_poll_seconds,
            rng=rng,
        )
        self.instance_watches: InstanceWatches = InstanceWatches(
            self.naming,
            runner.run,
            self.background,
            poll_seconds=settings.instance_poll_seconds,
            empty_hold_seconds=settings.empty_hold_seconds,
            clock=clock,
            rng=rng,
        )
        self._sync = sync
        self._listeners = Background("nacos-listeners", _nothing)
        self._process = os.getpid()
        self._closed = False

    @cached_property
    def config_admin(self) -> ConfigAdmin:
        """The documents' administration; its models cost 0.1 s to import, most never need them."""
        from ._admin import ConfigAdmin

        return ConfigAdmin(self.session, self.settings.ciphers)

    @cached_property
    def server_admin(self) -> ServerAdmin:
        """The administration of services, namespaces and users."""
        from ._server_admin import ServerAdmin

        return ServerAdmin(self.session)

    def namespace(self, namespace: str | None) -> str:
        """The namespace given, or this client's."""
        return self.settings.namespace if namespace is None else namespace

    def config_key(self, data_id: str, group: str | None, namespace: str | None) -> ConfigKey:
        """A checked key, with this client's defaults filled in."""
        group = self.settings.group if group is None else group
        return ConfigKey.checked(data_id, group, self.namespace(namespace))

    def service_key(
        self,
        service: str,
        group: str | None,
        namespace: str | None,
        clusters: Sequence[str] = (),
    ) -> ServiceKey:
        """A checked key, with this client's defaults filled in."""
        group = self.settings.group if group is None else group
        return ServiceKey.checked(service, group, self.namespace(namespace), clusters)

    def registration(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str | None,
        namespace: str | None,
        cluster: str = "DEFAULT",
        weight: float = 1.0,
        enabled: bool = True,
        ephemeral: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> Registration:
        """A checked registration, with this client's defaults filled in."""
        return checked_registration(
            service,
            ip,
            port,
            group=self.settings.group if group is None else group,
            namespace=self.namespace(namespace),
            cluster=cluster,
            weight=weight,
            enabled=enabled,
            ephemeral=ephemeral,
            metadata=metadata,
        )

    def get_config(self, key: ConfigKey) -> Operation[Config]:
        """The document now."""
        self.check_open()
        return self.config.get(key)

    def register(self, registration: Registration) -> Operation[Registration]:
        """Announce the instance, and keep it alive if it is ephemeral."""
        self.check_open()
        earlier = yield Wait(self.background.submit(self.heartbeats.forget(registration.key)))
        try:
            yield from self.naming.register(registration)
        except NacosError:
            if earlier is not None:
                yield Wait(self.background.submit(self.heartbeats.keep(earlier)))
            raise
        if registration.ephemeral:
            yield Wait(self.background.submit(self.heartbeats.keep(registration)))
        return registration

    def deregister(self, registration: Registration) -> Operation[None]:
        """Stop beating, then take the instance out as it was registered."""
        self.check_open()
        kept = yield Wait(self.background.submit(self.heartbeats.forget(registration.key)))
        yield from self.naming.deregister(kept or registration)

    def hand_over(self, registration: Registration) -> Operation[None]:
        """Stop beating, and leave the instance where it is."""
        self.check_open()
        yield Wait(self.background.submit(self.heartbeats.forget(registration.key)))

    def beat(self, registration: Registration) -> Operation[None]:
        """One beat now."""
        self.check_open()
        yield from self.naming.beat(registration)

    def update(
        self,
        registration: Registration,
        *,
        metadata: Mapping[str, str] | None,
        weight: float | None,
        enabled: bool | None,
    ) -> Operation[Registration]:
        """Register an instance again with some of its data changed."""
        self.check_open()
        kept = yield Wait(self.background.submit(self.heartbeats.kept(registration.key)))
        if kept is None:
            where = f"{registration.service} at {registration.ip}:{registration.port}"
            raise InvalidArgumentError("instance", where, "one this client has registered")
        changed = self.registration(
            kept.service,
            kept.ip,
            kept.port,
            group=kept.group,
            namespace=kept.namespace,
            cluster=kept.cluster,
            weight=kept.weight if weight is None else weight,
            enabled=kept.enabled if enabled is None else enabled,
            metadata=kept.metadata if metadata is None else metadata,
        )
        return (yield from self.register(changed))

    def instances(
        self, key: ServiceKey, *, healthy_only: bool, metadata: Mapping[str, str]
    ) -> Operation[InstanceList]:
        """The instances now that pass the filters."""
        self.check_open()
        found = yield from self.naming.listed(key)
        wanted = tuple(
            each
            for each in found.instances
            if (each.usable or not healthy_only) and metadata.items() <= each.metadata.items()
        )
        return replace(found, instances=wanted)

    def pick(self, key: ServiceKey) -> Operation[Instance]:
        """One usable instance by weight."""
        self.check_open()
        known = self.instance_watches.state(key)
        if known is not None:
            return self.naming.pick(known.instances)
        found = yield from self.naming.listed(key)
        return self.naming.pick(found.instances)

    def watch_config(
        self,
        key: ConfigKey,
        listener: Listener[Config],
        on_deleted: Listener[ConfigDeleted] | None,
    ) -> Callable[[], None]:
        """Start to watch a document."""
        self.check_open()

        def call(state: ConfigState, _: ConfigState | None) -> Awaitable[None] | None:
            if isinstance(state, Config):
                return listener(state)
            return on_deleted(state) if on_deleted is not None else None

        delivery = self._delivery(f"watch of {key}", call, is_config_news)
        return self.config_watches.watch(key, delivery)

    def subscribe(
        self,
        key: ServiceKey,
        listener: Listener[InstanceList],
    ) -> Callable[[], None]:
        """Start to watch a service."""
        self.check_open()

        def call(state: ServiceState, before: ServiceState | None) -> Awaitable[None] | None:
            return listener(list_for(state, before))

        delivery = self._delivery(f"subscription to {key}", call, is_instance_news)
        return self.instance_watches.watch(key, delivery)

    def _delivery(
        self,
        name: str,
        call: Callable[[S, S | None], Awaitable[None] | None],
        is_news: Callable[[S | None, S], bool],
    ) -> Delivery[S]:
        # A sync client has no loop of the user's: its listeners get a thread of their own.
        loop = self._listeners.loop() if self._sync else asyncio.get_running_loop()
        return Delivery(name, loop, call, is_news=is_news, in_threads=self._sync)

    def services(self, group: str | None, namespace: str | None) -> Operation[list[str]]:
        """The names of all services of a group."""
        self.check_open()
        group = self.settings.group if group is None else group
        return self.server_admin.service_names(self.namespace(namespace), group)

    @property
    def beat_status(self) -> BeatStatus:
        """How the heartbeats fare."""
        return self.heartbeats.status

    def check_open(self) -> None:
        """Refuse work after close.

        Raises:
            ClientClosedError: the client is closed.
        """
        if self._closed:
            raise ClientClosedError("the Nacos client is closed; make a new one")

    def close(self) -> Operation[None]:
        """Deregister what was kept alive, end every watch, and join the background thread."""
        if self._closed:
            return
        self._closed = True
        ends_at = time.monotonic() + CLOSE_SECONDS
        if self.background.running and self._process == os.getpid():
            yield from self._until(ends_at, self.background.submit(self.heartbeats.farewell()))
        for thread in (self.background, self._listeners):
            yield from self._until(ends_at, thread.stop())
            thread.join()

    def _until(self, ends_at: float, future: Future[None]) -> Operation[None]:
        try:
            yield Wait(future, max(ends_at - time.monotonic(), 0.05))
        except TimeoutError:
            return


async def _nothing() -> None:
    """The listeners' loop has nothing of its own to close."""


def _transport_options(settings: Settings) -> TransportOptions:
    return TransportOptions(
        connect_seconds=settings.connect_seconds,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        verify=settings.tls_verify,
        trust_env=settings.trust_env,
        transport=settings.transport,
    )


def _session(settings: Settings, rng: random.Random) -> Session:
    to_url = partial(base_url, context_path=settings.context_path, tls=settings.tls)
    addresses = [to_url(each) for each in settings.server_addr]
    number = version("nacos-client")
    headers = {"User-Agent": f"Nacos-Python-Client:v{number}", "Client-Version": number}
    if settings.app_name:
        headers["Client-AppName"] = settings.app_name
    session = Session(
        Servers(
            addresses, clock=time.monotonic, rng=rng, rest_seconds=settings.server_rest_seconds
        ),
        clock=time.monotonic,
        rng=rng,
        timeout_seconds=settings.timeout_seconds,
        attempt_seconds=settings.attempt_seconds,
        headers=headers,
    )
    session.provider = settings.credentials
    session.telemetry = telemetry(number)
    if settings.endpoint:
        session.address_server = AddressServer(
            settings.endpoint, session.servers, clock=time.monotonic, to_url=to_url
        )
    if settings.username:
        session.login = Login(
            settings.username,
            settings.password.get_secret_value(),
            session.anonymous,
            clock=time.monotonic,
            rng=rng,
            refusal_pauses=REFUSAL_PAUSES[: settings.login_attempts - 1],
        )
    return session
