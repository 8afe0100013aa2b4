# Generated from _async by scripts/generate_sync.py: change it there.
"""Publish and administer documents, services, namespaces and users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from nacos_client._core import Core
from nacos_client._steps import Operation
from nacos_client._transport import SyncRunner
from nacos_client.models import Instance, Registration

if TYPE_CHECKING:
    # Its models cost 0.1 s to import, and most clients need none of them.
    from nacos_client.admin_models import (
        BetaConfig,
        ClusterNode,
        ConfigDetail,
        ConfigSummary,
        ConfigVersion,
        ConfigVersionDetail,
        Namespace,
        Page,
        Permission,
        Role,
        ServiceDetail,
        ServiceSummary,
        Subscriber,
        TransferResult,
        User,
    )

__all__ = ("AdminApi",)

T = TypeVar("T")


class AdminApi:
    """`nacos.admin`: publishes documents and administers the server.

    Most of it needs a user with admin permissions. `group` and `namespace` default to the client's.
    Every method may raise PermissionDeniedError and, in an outage, ServerUnavailableError.
    """

    def __init__(self, core: Core, runner: SyncRunner) -> None:
        self._core = core
        self._runner = runner

    def publish(
        self,
        data_id: str,
        content: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
        type: str | None = None,  # noqa: A002 - Nacos' name for it
        cas_md5: str | None = None,
        beta_ips: Sequence[str] = (),
        tag: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        app: str | None = None,
    ) -> None:
        """Create or replace a document; readers see it some 50 ms later.

        `type` is `text`, `json`, `xml`, `yaml`, `html`, `properties` or `toml`; by default the one
        of the data id's ending. With `cas_md5` the document is replaced only if that is still its
        md5. With `beta_ips` only clients with these addresses see the new version, with `tag` only
        clients that request that tag over gRPC.

        It is not retried once it may have reached a server: after ServerUnavailableError the
        document may have been published or not.

        Raises:
            ConflictError: the server's md5 is not `cas_md5`.
            InvalidArgumentError: blank content, more than 10 Mi characters, an unknown type.
        """
        key = self._core.config_key(data_id, group, namespace)
        operation = self._core.config_admin.publish(
            key,
            content,
            kind=type,
            cas_md5=cas_md5,
            beta_ips=beta_ips,
            tag=tag,
            description=description,
            tags=tags,
            app=app,
        )
        self._run(operation)

    def delete(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> None:
        """Delete a document; one that does not exist is no error."""
        key = self._core.config_key(data_id, group, namespace)
        self._run(self._core.config_admin.delete(key))

    def get(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> ConfigDetail:
        """The document in the database, where a write is visible at once.

        Raises:
            ConfigNotFound: it does not exist.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._run(self._core.config_admin.get(key))

    def search(
        self,
        data_id: str = "",
        *,
        group: str = "",
        namespace: str | None = None,
        types: Sequence[str] = (),
        tags: Sequence[str] = (),
        app: str = "",
    ) -> Iterator[ConfigSummary]:
        """The matching documents, page by page; `*` matches any text, an empty argument everything."""
        space = self._core.namespace_or_default(namespace)

        def read_page(number: int) -> Operation[Page[ConfigSummary]]:
            return self._core.config_admin.read_search_page(
                space, number, data_id=data_id, group=group, kinds=types, tags=tags, app=app
            )

        yield from self._iterate_pages(read_page)

    def beta(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> BetaConfig:
        """The beta version of a document.

        Raises:
            ConfigNotFound: it has no beta version.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._run(self._core.config_admin.beta(key))

    def stop_beta(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> None:
        """Delete the beta version: all clients see the formal one again."""
        key = self._core.config_key(data_id, group, namespace)
        self._run(self._core.config_admin.stop_beta(key))

    def history(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> Iterator[ConfigVersion]:
        """The versions of a document, newest first, page by page."""
        key = self._core.config_key(data_id, group, namespace)
        yield from self._iterate_pages(
            lambda page: self._core.config_admin.read_history_page(key, page)
        )

    def version(
        self,
        data_id: str,
        version_id: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
    ) -> ConfigVersionDetail:
        """One entry of the history with its content.

        Raises:
            NotFoundError: there is no such entry.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._run(self._core.config_admin.version(key, version_id))

    def rollback(
        self,
        data_id: str,
        version_id: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Publish the content of an entry of the history again.

        With an update or a deletion Nacos records the content before it: rolling back to such an
        entry undoes it.

        Raises:
            NotFoundError: there is no such entry.
        """
        key = self._core.config_key(data_id, group, namespace)
        self._run(self._core.config_admin.rollback(key, version_id))

    def export_configs(
        self, configs: Iterable[ConfigSummary | ConfigDetail], *, namespace: str | None = None
    ) -> bytes:
        """The documents as a zip file, in the format of the console."""
        ids = [each.config_id for each in configs]
        return self._run(
            self._core.config_admin.export_configs(self._core.namespace_or_default(namespace), ids)
        )

    def import_configs(
        self, archive: bytes, *, namespace: str | None = None, policy: str = "ABORT"
    ) -> TransferResult:
        """Publish the documents of a zip file.

        `policy` decides about documents that exist already: `ABORT`, `SKIP` or `OVERWRITE`.
        """
        space = self._core.namespace_or_default(namespace)
        return self._run(self._core.config_admin.import_configs(space, archive, policy))

    def clone(
        self,
        configs: Sequence[ConfigSummary | ConfigDetail],
        *,
        target_namespace: str,
        policy: str = "ABORT",
    ) -> TransferResult:
        """Copy documents into another namespace; see `import_configs` for `policy`."""
        return self._run(self._core.config_admin.clone(configs, target_namespace, policy))

    def namespaces(self) -> list[Namespace]:
        """All namespaces."""
        return self._run(self._core.server_admin.namespaces())

    def namespace(self, namespace: str) -> Namespace:
        """One namespace by its id.

        Raises:
            NotFoundError: it does not exist.
        """
        return self._run(self._core.server_admin.namespace(namespace))

    def create_namespace(self, namespace: str, name: str = "", *, description: str = "") -> None:
        """Create a namespace; its display name is the id by default."""
        operation = self._core.server_admin.create_namespace(
            namespace, name or namespace, description
        )
        self._run(operation)

    def update_namespace(self, namespace: str, name: str, *, description: str = "") -> None:
        """Change the display name and the description of a namespace."""
        self._run(self._core.server_admin.update_namespace(namespace, name, description))

    def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace."""
        self._run(self._core.server_admin.delete_namespace(namespace))

    def services(
        self,
        service: str = "",
        *,
        group: str = "",
        namespace: str | None = None,
        with_empty: bool = True,
    ) -> Iterator[ServiceSummary]:
        """The services whose names and groups contain the arguments, page by page."""
        space = self._core.namespace_or_default(namespace)

        def read_page(number: int) -> Operation[Page[ServiceSummary]]:
            return self._core.server_admin.read_services_page(
                space, number, group=group, service=service, with_empty=with_empty
            )

        yield from self._iterate_pages(read_page)

    def service(
        self, service: str, *, group: str | None = None, namespace: str | None = None
    ) -> ServiceDetail:
        """One service.

        Raises:
            NotFoundError: it does not exist.
        """
        key = self._core.service_key(service, group, namespace)
        return self._run(self._core.server_admin.service(key))

    def create_service(
        self,
        service: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
        ephemeral: bool = True,
        protect_threshold: float = 0.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Create a service without instances.

        While the share of healthy instances is `protect_threshold` (0 to 1) or less, the server
        lists all instances as healthy.
        """
        key = self._core.service_key(service, group, namespace)
        operation = self._core.server_admin.create_service(
            key, ephemeral=ephemeral, protect_threshold=protect_threshold, metadata=metadata
        )
        self._run(operation)

    def update_service(
        self,
        service: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
        protect_threshold: float = 0.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Replace both the protection threshold and the metadata of a service."""
        key = self._core.service_key(service, group, namespace)
        operation = self._core.server_admin.update_service(
            key, protect_threshold=protect_threshold, metadata=metadata
        )
        self._run(operation)

    def delete_service(
        self, service: str, *, group: str | None = None, namespace: str | None = None
    ) -> None:
        """Delete a service that has no instances."""
        key = self._core.service_key(service, group, namespace)
        self._run(self._core.server_admin.delete_service(key))

    def subscribers(
        self, service: str, *, group: str | None = None, namespace: str | None = None
    ) -> Iterator[Subscriber]:
        """The subscribers of a service, page by page; the server knows gRPC clients only."""
        key = self._core.service_key(service, group, namespace)
        admin = self._core.server_admin
        yield from self._iterate_pages(lambda page: admin.read_subscribers_page(key, page))

    def instances(
        self,
        service: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
        clusters: Sequence[str] = (),
    ) -> list[Instance]:
        """All instances of a service, the disabled ones included."""
        key = self._core.service_key(service, group, namespace, clusters)
        return list(self._run(self._core.server_admin.instances(key)))

    def update_instance(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        weight: float,
        enabled: bool,
        metadata: Mapping[str, str] | None = None,
        group: str | None = None,
        namespace: str | None = None,
        cluster: str = "DEFAULT",
        ephemeral: bool = True,
    ) -> None:
        """Replace weight, enabled and metadata of an instance of any client.

        All three are needed: Nacos' own "partial update" resets what is left out.
        """
        registration = Registration(
            service,
            ip,
            port,
            weight=weight,
            enabled=enabled,
            ephemeral=ephemeral,
            metadata=metadata or {},
            cluster=cluster,
            group=self._core.group_or_default(group),
            namespace=self._core.namespace_or_default(namespace),
        )
        self._run(self._core.server_admin.update_instance(registration))

    def set_health(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        healthy: bool,
        group: str | None = None,
        namespace: str | None = None,
        cluster: str = "DEFAULT",
    ) -> None:
        """Set the health of a persistent instance.

        Raises:
            RequestRejectedError: its cluster has a health check, which decides.
        """
        registration = Registration(
            service,
            ip,
            port,
            ephemeral=False,
            cluster=cluster,
            group=self._core.group_or_default(group),
            namespace=self._core.namespace_or_default(namespace),
        )
        self._run(self._core.server_admin.set_health(registration, healthy=healthy))

    def nodes(self) -> list[ClusterNode]:
        """The servers of the cluster, as the responding one sees them."""
        return self._run(self._core.server_admin.nodes())

    def state(self) -> dict[str, str]:
        """The server's description of itself: `version`, `startup_mode`, `auth_enabled` and more."""
        return self._run(self._core.server_admin.state())

    def ready(self) -> bool:
        """Whether a server responds and is ready; False when none can be reached."""
        return self._run(self._core.server_admin.ready())

    def users(self) -> Iterator[User]:
        """All users, page by page."""
        yield from self._iterate_pages(self._core.server_admin.read_users_page)

    def create_user(self, username: str, password: str) -> None:
        """Create a user; it can log in after some seconds, when the servers re-read their users."""
        self._run(self._core.server_admin.create_user(username, password))

    def delete_user(self, username: str) -> None:
        """Delete a user."""
        self._run(self._core.server_admin.delete_user(username))

    def roles(self) -> Iterator[Role]:
        """All pairs of role and user, page by page."""
        yield from self._iterate_pages(self._core.server_admin.read_roles_page)

    def add_role(self, role: str, username: str) -> None:
        """Give a user a role."""
        self._run(self._core.server_admin.add_role(role, username))

    def remove_role(self, role: str, username: str) -> None:
        """Take a role from a user."""
        self._run(self._core.server_admin.remove_role(role, username))

    def permissions(self) -> Iterator[Permission]:
        """All permissions, page by page."""
        yield from self._iterate_pages(self._core.server_admin.read_permissions_page)

    def add_permission(self, role: str, resource: str, action: str) -> None:
        """Grant a role `r`, `w` or `rw` on a resource, such as `public:DEFAULT_GROUP:config/*`."""
        self._run(self._core.server_admin.add_permission(role, resource, action))

    def remove_permission(self, role: str, resource: str, action: str) -> None:
        """Revoke a permission of a role."""
        self._run(self._core.server_admin.remove_permission(role, resource, action))

    def _run(self, operation: Operation[T]) -> T:
        self._core.check_open()
        return self._runner.run(operation)

    def _iterate_pages(self, read_page: Callable[[int], Operation[Page[T]]]) -> Iterator[T]:
        number, is_last = 1, False
        while not is_last:
            page = self._run(read_page(number))
            yield from page.items
            number, is_last = number + 1, page.last
