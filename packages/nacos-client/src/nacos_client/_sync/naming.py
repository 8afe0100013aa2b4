# Generated from _async by scripts/generate_sync.py: change it there.
"""Register, list and subscribe to instances of services."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nacos_client._core import Core
    from nacos_client._delivery import Listener
    from nacos_client._transport import SyncRunner
    from nacos_client.models import BeatStatus, Instance, InstanceList, Registration

__all__ = ("NamingApi",)


class NamingApi:
    """`nacos.naming`. `group` and `namespace` default to the client's."""

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
        """Announce an instance; an ephemeral one is kept alive until `deregister` or close.

        Doing it again replaces the earlier data. Beats come from a thread of their own, at the
        interval of metadata `preserved.heart.beat.interval` (milliseconds, default 5000). A
        persistent instance (`ephemeral=False`) does not beat and outlives this client.

        Raises:
            InvalidArgumentError: names the value that Nacos would refuse, and the rule.
            RequestRejectedError: for example a service that is already persistent.
        """
        registration = self._core.registration(
            service,
            ip,
            port,
            group=group,
            namespace=namespace,
            cluster=cluster,
            weight=weight,
            enabled=enabled,
            ephemeral=ephemeral,
            metadata=metadata,
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
        """Change an instance this client keeps alive; what is not given stays.

        Raises:
            InvalidArgumentError: this client keeps no such instance alive.
        """
        registration = self._core.registration(service, ip, port, group=group, namespace=namespace)
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
        """Stop beating and take the instance out; one that is not there is no error.

        `cluster` and `ephemeral` only matter for what this client did not register itself.
        """
        registration = self._core.registration(
            service,
            ip,
            port,
            group=group,
            namespace=namespace,
            cluster=cluster,
            ephemeral=ephemeral,
        )
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
        """Stop beating, and leave the instance registered: another process goes on with it.

        It has to register within the lease (metadata `preserved.heart.beat.timeout`, 15 s unless
        said otherwise). One that this client does not keep alive is no error.
        """
        registration = self._core.registration(service, ip, port, group=group, namespace=namespace)
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
        """Send one beat now.

        Raises:
            InstanceNotFound: the server does not know this ephemeral instance.
        """
        registration = self._core.registration(
            service, ip, port, group=group, namespace=namespace, cluster=cluster
        )
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
        """The enabled instances now; empty for a service nobody registered.

        `healthy_only` leaves out those that are unhealthy or have weight 0, `metadata` those that
        lack one of the pairs. Without `clusters`, servers up to 3.2.0 list the cluster DEFAULT
        only. While no server answers, the last good list is returned, marked `.stale`.

        Raises:
            ServerUnavailableError: no server answered, and there is no earlier list.
        """
        key = self._core.service_key(service, group, namespace, clusters)
        operation = self._core.instances(key, healthy_only=healthy_only, metadata=metadata or {})
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
            NoInstanceError: none is healthy, enabled and of some weight.
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

        What it gets is the list itself, with `.added`, `.removed` and `.changed` since its last
        call. While no server answers it keeps the last good list, marked `.stale`; an empty
        answer after a full one is confirmed before it is believed. The listener may be plain or
        async, and never runs twice at once; one that raises is logged and hears the next change.

        Returns:
            a callable that ends the subscription; it may be called twice.
        """
        key = self._core.service_key(service, group, namespace, clusters)
        return self._core.subscribe(key, listener)

    def services(self, *, group: str | None = None, namespace: str | None = None) -> list[str]:
        """The names of all services of a group, sorted; an empty group means all groups.

        Raises:
            PermissionDeniedError: this user may not use the admin API, which alone knows them.
        """
        return self._runner.run(self._core.services(group, namespace))

    @property
    def beat_status(self) -> BeatStatus:
        """How the heartbeats of this client fare."""
        return self._core.beat_status
