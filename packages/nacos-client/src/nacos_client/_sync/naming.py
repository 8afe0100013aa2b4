# Generated from _async by scripts/generate_sync.py: change it there.
"""Register, list and subscribe to instances of services."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nacos_client._core import Core
from nacos_client._delivery import Listener
from nacos_client._transport import SyncRunner
from nacos_client.models import BeatStatus, Instance, InstanceList, Registration, WatchStatus

__all__ = ("NamingApi",)


class NamingApi:
    """`nacos.naming`: registers and finds instances of services.

    `group` and `namespace` default to the client's.
    """

    def __init__(self, core: Core, runner: SyncRunner) -> None:
        self._core = core
        self._runner = runner

    def register(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        metadata: Mapping[str, str] | None = None,
        group: str | None = None,
        namespace: str | None = None,
        cluster: str = "DEFAULT",
        weight: float = 1.0,
        enabled: bool = True,
        ephemeral: bool = True,
    ) -> Registration:
        """Register an instance; an ephemeral one is kept alive until `deregister` or close.

        A program that ends without either deregisters it at its exit, for which it takes one second
        at most; one that a signal kills, SIGTERM without a handler included, leaves it to expire.
        Registering it again replaces its data. Heartbeats are sent from a thread of the client, at
        the interval of metadata `preserved.heart.beat.interval` (milliseconds, default 5000). A
        persistent instance (`ephemeral=False`) has no heartbeat and outlives this client.

        Raises:
            InvalidArgumentError: Nacos would refuse a value; the error names it and the rule.
            RequestRejectedError: for example a service that is already persistent.
        """
        registration = Registration(
            service,
            ip,
            port,
            weight=weight,
            enabled=enabled,
            ephemeral=ephemeral,
            metadata={} if metadata is None else metadata,
            cluster=cluster,
            group=self._core.group_or_default(group),
            namespace=self._core.namespace_or_default(namespace),
        )
        return self._runner.run(self._core.register(registration))

    def update(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        metadata: Mapping[str, str] | None = None,
        weight: float | None = None,
        enabled: bool | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> Registration:
        """Change an instance this client has registered; omitted values keep what they are.

        Raises:
            InvalidArgumentError: this client has registered no such instance.
        """
        registration = self._identify(service, ip, port, group, namespace)
        operation = self._core.update(
            registration, metadata=metadata, weight=weight, enabled=enabled
        )
        return self._runner.run(operation)

    def deregister(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str | None = None,
        namespace: str | None = None,
        cluster: str = "DEFAULT",
        ephemeral: bool = True,
    ) -> None:
        """Stop the heartbeat and deregister; an instance that does not exist is no error.

        `cluster` and `ephemeral` matter only for an instance that another client registered: of
        its own, this one knows them.
        """
        registration = self._identify(service, ip, port, group, namespace, cluster=cluster)
        if not ephemeral:
            registration = replace(registration, ephemeral=False)
        self._runner.run(self._core.deregister(registration))

    def hand_over(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Stop the heartbeat and leave the instance registered, for another process to take over.

        That process has to register it before it expires (metadata `preserved.heart.beat.timeout`,
        15 s by default). An instance that this client does not keep alive is no error.
        """
        registration = self._identify(service, ip, port, group, namespace)
        self._runner.run(self._core.hand_over(registration))

    def beat(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str | None = None,
        namespace: str | None = None,
        cluster: str = "DEFAULT",
    ) -> None:
        """Send one heartbeat now.

        Raises:
            InstanceNotFound: the server does not know this ephemeral instance.
        """
        registration = self._identify(service, ip, port, group, namespace, cluster=cluster)
        self._runner.run(self._core.beat(registration))

    def instances(
        self,
        service: str,
        *,
        healthy_only: bool = False,
        clusters: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> InstanceList:
        """The enabled instances now; empty for a service without any.

        `healthy_only` leaves out instances that are unhealthy or have weight 0, `metadata` those
        that lack one of the pairs; without `clusters`, those of every cluster are listed. While no
        server responds, the last good list is returned, marked `.stale`.

        Raises:
            ServerUnavailableError: no server responded, and there is no earlier list.
        """
        key = self._core.service_key(service, group, namespace, clusters)
        operation = self._core.instances(key, healthy_only=healthy_only, metadata=metadata)
        return self._runner.run(operation)

    def pick(
        self,
        service: str,
        *,
        clusters: Sequence[str] = (),
        group: str | None = None,
        namespace: str | None = None,
    ) -> Instance:
        """One instance to call, at random by weight; from memory for a subscribed service.

        Raises:
            NoInstanceError: none is healthy, enabled and of a weight above 0.
        """
        key = self._core.service_key(service, group, namespace, clusters)
        return self._runner.run(self._core.pick(key))

    def subscribe(
        self,
        service: str,
        listener: Listener[InstanceList],
        *,
        group: str | None = None,
        namespace: str | None = None,
        clusters: Sequence[str] = (),
    ) -> Callable[[], None]:
        """Call the listener once with the present list, then on each change.

        The list holds `.added`, `.removed` and `.changed` since the listener's previous call.
        While no server responds, the last good list stays in use, marked `.stale`; an empty list
        after one with instances counts only when it is confirmed. The listener may be plain or
        async, and never runs twice at once; an exception of its is logged, and it is called again
        with the next change.

        Returns:
            a callable that ends the subscription; it may be called twice.
        """
        key = self._core.service_key(service, group, namespace, clusters)
        return self._core.subscribe(key, listener)

    def services(self, *, group: str | None = None, namespace: str | None = None) -> list[str]:
        """The names of all services of a group, sorted; an empty group means all groups.

        Raises:
            PermissionDeniedError: this user may not use the admin API, the only one with the list.
        """
        return self._runner.run(self._core.services(group, namespace))

    @property
    def beat_status(self) -> BeatStatus:
        """Statistics of the heartbeats of this client."""
        return self._core.heartbeats.status

    @property
    def subscription_status(self) -> WatchStatus:
        """How many services this client is subscribed to, and how many of those polls fail."""
        return self._core.instance_watches.status

    def _identify(
        self,
        service: str,
        ip: str,
        port: int,
        group: str | None,
        namespace: str | None,
        *,
        cluster: str = "DEFAULT",
    ) -> Registration:
        return Registration(
            service,
            ip,
            port,
            cluster=cluster,
            group=self._core.group_or_default(group),
            namespace=self._core.namespace_or_default(namespace),
        )
