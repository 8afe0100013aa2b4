"""What both clients share: all parts of a client, wired, and nothing that blocks or awaits."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from ._address_server import AddressServer
from ._after_fork import call_after_fork, reseed_after_fork
from ._background import BackgroundLoop
from ._config import ConfigOperations
from ._config_list import ConfigLists
from ._config_watch import ConfigState, ConfigWatches, config_differs
from ._delivery import Delivery, Listener
from ._failover import Failover
from ._farewell import cancel_farewell, say_at_exit
from ._heartbeat import Heartbeats
from ._instance_watch import InstanceWatches, ServiceState, diff_instances, instances_differ
from ._keys import ConfigKey, ServiceKey
from ._login import Login
from ._naming import NamingOperations, PersistentRegistrations, validate_registration
from ._servers import Servers, to_base_url
from ._session import Session
from ._snapshots import FailoverFolder, Snapshots
from ._steps import Operation, Wait
from ._telemetry import create_telemetry
from ._transport import AsyncRunner, TransportOptions
from ._validation import validate_credentials, validate_labels, validate_listener
from .errors import ClientClosedError, InvalidArgumentError, NacosError
from .models import Config, ConfigDeleted, Instance, InstanceList, Registration
from .settings import Settings

if TYPE_CHECKING:
    from ._config_admin import ConfigAdmin
    from ._server_admin import ServerAdmin

__all__ = ("Core",)

S = TypeVar("S")

_CLOSE_SECONDS = 2.0
_MIN_WAIT_SECONDS = 0.05


class Core:
    """The parts of one client. Its client runs the operations, the background loop the watches.

    Args:
        sync: the client is a NacosClient: its listeners run in threads.
    """

    def __init__(self, settings: Settings, *, sync: bool) -> None:
        rng = reseed_after_fork(random.Random())
        clock = time.monotonic
        self.settings = settings
        self.options: TransportOptions = _build_transport_options(settings)
        self.session: Session = _build_session(settings, rng)
        # A forked child must not wait for locks and logins of threads of its parent only.
        call_after_fork(self.session.after_fork)
        # Two Nacos with the same namespace must not read each other's snapshots.
        origin = (*settings.server_addr, settings.endpoint)
        self.config: ConfigOperations = ConfigOperations(
            self.session,
            Snapshots(settings.snapshot_dir, origin),
            FailoverFolder(settings.failover_dir),
            settings.ciphers,
        )
        self.naming: NamingOperations = NamingOperations(self.session, clock=clock, rng=rng)
        runner = AsyncRunner(self.options)
        self.background: BackgroundLoop = BackgroundLoop("nacos-client", runner.aclose)
        self.heartbeats: Heartbeats = Heartbeats(self.naming, runner.run, clock=clock, rng=rng)
        self.config_watches: ConfigWatches = ConfigWatches(
            self.config,
            ConfigLists(self.session) if settings.config_sweep else None,
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
            quiet_poll_seconds=settings.quiet_poll_seconds,
            empty_hold_seconds=settings.empty_hold_seconds,
            clock=clock,
            rng=rng,
        )
        self._persistent = PersistentRegistrations()
        self._sync = sync
        self._listener_loop = BackgroundLoop("nacos-listeners", _close_nothing)
        self._process = os.getpid()
        self._closed = False

    @cached_property
    def config_admin(self) -> ConfigAdmin:
        """The administration of documents.

        Imported at the first use: its models take 0.1 s to import, and most clients need none.
        """
        from ._config_admin import ConfigAdmin

        return ConfigAdmin(self.session, self.settings.ciphers)

    @cached_property
    def server_admin(self) -> ServerAdmin:
        """The administration of services, namespaces and users; imported at the first use."""
        from ._server_admin import ServerAdmin

        return ServerAdmin(self.session)

    def group_or_default(self, group: str | None) -> str:
        """The group, or this client's when it is None."""
        return self.settings.group if group is None else group

    def namespace_or_default(self, namespace: str | None) -> str:
        """The namespace, or this client's when it is None."""
        return self.settings.namespace if namespace is None else namespace

    def config_key(self, data_id: str, group: str | None, namespace: str | None) -> ConfigKey:
        """A valid key, with this client's defaults for what is None.

        Raises:
            InvalidArgumentError: a part of it is illegal.
        """
        return ConfigKey.create(
            data_id, self.group_or_default(group), self.namespace_or_default(namespace)
        )

    def service_key(
        self,
        service: str,
        group: str | None,
        namespace: str | None,
        clusters: Sequence[str] = (),
    ) -> ServiceKey:
        """A valid key, with this client's defaults for what is None.

        Raises:
            InvalidArgumentError: a part of it is illegal.
        """
        return ServiceKey.create(
            service, self.group_or_default(group), self.namespace_or_default(namespace), clusters
        )

    def login(self, username: str, password: str) -> Operation[None]:
        """Use other credentials from now on."""
        self.check_open()
        return self.session.log_in(*validate_credentials(username, password))

    def get_config(self, key: ConfigKey) -> Operation[Config]:
        """The document now."""
        self.check_open()
        return self.config.get(key)

    def register(self, registration: Registration) -> Operation[Registration]:
        """Register the instance, and keep it alive if it is ephemeral."""
        self.check_open()
        registration = validate_registration(registration)
        previous = yield Wait(self.background.submit(self.heartbeats.stop(registration.key)))
        try:
            yield from self.naming.register(registration)
        except NacosError:
            if previous is not None:
                yield Wait(self.background.submit(self.heartbeats.start(previous)))
            raise
        self._persistent.record(registration)
        if registration.ephemeral:
            yield Wait(self.background.submit(self.heartbeats.start(registration)))
            say_at_exit(self.background, self.heartbeats.aclose)
        return registration

    def deregister(self, registration: Registration) -> Operation[None]:
        """Stop beating, then deregister the instance as it was registered."""
        self.check_open()
        named, registration = registration, validate_registration(registration)
        own = yield Wait(self.background.submit(self.heartbeats.stop(registration.key)))
        own = own or self._persistent.find(registration)
        # Of another client's instance, the address counts as that client wrote it.
        yield from self.naming.deregister(own or replace(registration, ip=named.ip))
        self._persistent.forget(registration)

    def hand_over(self, registration: Registration) -> Operation[None]:
        """Stop beating, and leave the instance registered."""
        self.check_open()
        registration = validate_registration(registration)
        yield Wait(self.background.submit(self.heartbeats.stop(registration.key)))

    def beat(self, registration: Registration) -> Operation[None]:
        """Send one beat now."""
        self.check_open()
        yield from self.naming.beat(validate_registration(registration))

    def update(
        self,
        registration: Registration,
        *,
        metadata: Mapping[str, str] | None,
        weight: float | None,
        enabled: bool | None,
    ) -> Operation[Registration]:
        """Register an instance again with some of its data changed; None leaves a value."""
        self.check_open()
        registration = validate_registration(registration)
        own = self._persistent.find(registration)
        if own is None:
            own = yield Wait(self.background.submit(self.heartbeats.find(registration.key)))
        if own is None:
            address = f"{registration.service} at {registration.ip}:{registration.port}"
            raise InvalidArgumentError("instance", address, "one this client has registered")
        updated = replace(
            own,
            weight=own.weight if weight is None else weight,
            enabled=own.enabled if enabled is None else enabled,
            metadata=own.metadata if metadata is None else metadata,
        )
        return (yield from self.register(updated))

    def instances(
        self, key: ServiceKey, *, healthy_only: bool, metadata: Mapping[str, str] | None
    ) -> Operation[InstanceList]:
        """The present instances that pass the filters."""
        self.check_open()
        labels = validate_labels(metadata)
        listing = yield from self.naming.list_or_last_good(key)
        matching = tuple(
            each
            for each in listing.instances
            if (each.usable or not healthy_only) and labels.items() <= each.metadata.items()
        )
        return replace(listing, instances=matching)

    def pick(self, key: ServiceKey) -> Operation[Instance]:
        """One usable instance by weight; without a request when the service is subscribed."""
        self.check_open()
        state = self.instance_watches.get_state(key)
        if state is not None:
            return self.naming.pick(state.instances)
        listing = yield from self.naming.list_or_last_good(key)
        return self.naming.pick(listing.instances)

    def watch_config(
        self,
        key: ConfigKey,
        listener: Listener[Config],
        on_deleted: Listener[ConfigDeleted] | None,
    ) -> Callable[[], None]:
        """Start to watch a document; returns what ends the watch."""
        self.check_open()
        validate_listener("listener", listener)
        if on_deleted is not None:
            validate_listener("on_deleted", on_deleted)

        def call(state: ConfigState, _: ConfigState | None) -> Awaitable[None] | None:
            if isinstance(state, Config):
                return listener(state)
            return on_deleted(state) if on_deleted is not None else None

        delivery = self._create_delivery(f"watch of {key}", call, config_differs)
        return self.config_watches.watch(key, delivery)

    def watch_config_states(
        self, key: ConfigKey, listener: Listener[ConfigState]
    ) -> Callable[[], None]:
        """Start to watch a document and its absence; returns what ends the watch."""
        return self.watch_config(key, listener, listener)

    def subscribe(
        self,
        key: ServiceKey,
        listener: Listener[InstanceList],
    ) -> Callable[[], None]:
        """Start to watch a service; returns what ends the subscription."""
        self.check_open()
        validate_listener("listener", listener)

        def call(state: ServiceState, before: ServiceState | None) -> Awaitable[None] | None:
            return listener(diff_instances(state, before))

        delivery = self._create_delivery(f"subscription to {key}", call, instances_differ)
        return self.instance_watches.watch(key, delivery)

    def _create_delivery(
        self,
        name: str,
        call: Callable[[S, S | None], Awaitable[None] | None],
        differs: Callable[[S | None, S], bool],
    ) -> Delivery[S]:
        # A sync client has no event loop of the user's: its listeners get their own thread.
        loop = self._listener_loop.get_loop() if self._sync else asyncio.get_running_loop()
        return Delivery(name, loop, call, differs=differs, in_threads=self._sync)

    def services(self, group: str | None, namespace: str | None) -> Operation[list[str]]:
        """The names of all services of a group."""
        self.check_open()
        return self.server_admin.service_names(
            self.namespace_or_default(namespace), self.group_or_default(group)
        )

    def check_open(self) -> None:
        """Refuse work after close.

        Raises:
            ClientClosedError: the client is closed.
        """
        if self._closed:
            raise ClientClosedError("the Nacos client is closed; make a new one")

    def close(self) -> Operation[None]:
        """Deregister what is kept alive, end every watch, and join the background threads."""
        if self._closed:
            return
        self._closed = True
        cancel_farewell(self.background)
        ends_at = time.monotonic() + _CLOSE_SECONDS
        if self.background.started and self._process == os.getpid():
            yield from _wait_until(ends_at, self.background.submit(self.heartbeats.aclose()))
        for thread in (self.background, self._listener_loop):
            yield from _wait_until(ends_at, thread.close())
            thread.join()


def _wait_until(ends_at: float, future: Future[None]) -> Operation[None]:
    try:
        yield Wait(future, max(ends_at - time.monotonic(), _MIN_WAIT_SECONDS))
    except TimeoutError:
        return


async def _close_nothing() -> None:
    """The listeners' loop holds nothing to close."""


def _build_transport_options(settings: Settings) -> TransportOptions:
    return TransportOptions(
        connect_seconds=settings.connect_seconds,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        verify=settings.tls_verify,
        trust_env=settings.trust_env,
        transport=settings.transport,
    )


def _build_session(settings: Settings, rng: random.Random) -> Session:
    clock = time.monotonic
    to_url = partial(to_base_url, context_path=settings.context_path, tls=settings.tls)
    number = version("nacos-client")
    servers = Servers(
        [to_url(address) for address in settings.server_addr],
        clock=clock,
        rng=rng,
        rest_seconds=settings.server_rest_seconds,
    )
    failover = Failover(
        servers,
        clock=clock,
        rng=rng,
        attempt_seconds=settings.attempt_seconds,
        headers=_build_client_headers(number, settings.app_name),
    )
    address_server = None
    if settings.endpoint:
        address_server = AddressServer(settings.endpoint, servers, clock=clock, to_url=to_url)

    def create_login(username: str, password: str) -> Login:
        return Login(
            username,
            password,
            failover.call_anonymously,
            clock=clock,
            rng=rng,
            attempts=settings.login_attempts,
        )

    return Session(
        servers,
        failover,
        clock=clock,
        timeout_seconds=settings.timeout_seconds,
        address_server=address_server,
        create_login=create_login,
        username=settings.username,
        password=settings.password.get_secret_value(),
        provider=settings.credentials,
        telemetry=create_telemetry(number),
    )


def _build_client_headers(number: str, app_name: str) -> dict[str, str]:
    headers = {"User-Agent": f"Nacos-Python-Client:v{number}", "Client-Version": number}
    if app_name:
        headers["Client-AppName"] = app_name
    return headers
