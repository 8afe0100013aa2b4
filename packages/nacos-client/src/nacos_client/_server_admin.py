"""Administer services, namespaces, users and servers: operations without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from . import _names as names
from ._naming import ServiceKey, identity, instance_from
from ._steps import Operation, Request
from .admin_models import (
    ClusterNode,
    Namespace,
    Page,
    Permission,
    Role,
    ServiceDetail,
    ServiceSummary,
    Subscriber,
    User,
    read,
    read_page,
)
from .errors import (
    InvalidArgumentError,
    NacosError,
    NotFoundError,
    RequestRejectedError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._session import Session
    from .models import Instance, Registration

__all__ = ("ServerAdmin",)

T = TypeVar("T")

NAMESPACE = "/v3/admin/core/namespace"
SERVICE = "/v3/admin/ns/service"
INSTANCE = "/v3/admin/ns/instance"
STATE = "/v3/admin/core/state"
PAGE_SIZE = 500


class ServerAdmin:
    """What can be administered about everything but documents. Needs admin permissions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def namespaces(self) -> Operation[list[Namespace]]:
        """All namespaces."""
        request = Request("GET", f"{NAMESPACE}/list")
        data = yield from self._session.call(request)
        return [_namespace(entry, request.operation) for entry in data]

    def namespace(self, namespace: str) -> Operation[Namespace]:
        """One namespace.

        Raises:
            NotFoundError: there is none of this id.
        """
        query = {"namespaceId": names.namespace(namespace)}
        request = Request("GET", NAMESPACE, query=query)
        data = yield from self._session.call(request)
        return _namespace(data, request.operation)

    def create_namespace(self, namespace: str, name: str, description: str) -> Operation[None]:
        """Make a namespace."""
        form = _namespace_form(namespace, name, description)
        yield from self._session.call(Request("POST", NAMESPACE, form=form, repeat="unsent"))

    def update_namespace(self, namespace: str, name: str, description: str) -> Operation[None]:
        """Change the display name and description."""
        form = _namespace_form(namespace, name, description)
        yield from self._session.call(Request("PUT", NAMESPACE, form=form))

    def delete_namespace(self, namespace: str) -> Operation[None]:
        """Delete a namespace."""
        query = {"namespaceId": names.namespace(namespace)}
        yield from self._session.call(Request("DELETE", NAMESPACE, query=query))

    def services_page(
        self, namespace: str, page: int, *, group: str, service: str, with_empty: bool
    ) -> Operation[Page[ServiceSummary]]:
        """One page of services; group and service are parts of the name."""
        query = {
            "namespaceId": names.namespace(namespace),
            "groupNameParam": group or None,
            "serviceNameParam": service or None,
            "ignoreEmptyService": not with_empty,
        }
        return (yield from self._page(ServiceSummary, f"{SERVICE}/list", query, page))

    def service_names(self, namespace: str, group: str) -> Operation[list[str]]:
        """The names of all services of a group that have instances, sorted."""
        found: set[str] = set()
        page = 1
        while True:
            services = yield from self.services_page(
                namespace, page, group=group, service="", with_empty=False
            )
            found |= {each.name for each in services.items if each.group == group or not group}
            if services.last:
                return sorted(found)
            page += 1

    def service(self, key: ServiceKey) -> Operation[ServiceDetail]:
        """One service.

        Raises:
            NotFoundError: there is none.
        """
        request = Request("GET", SERVICE, query=_service(key))
        data = yield from self._session.call(request)
        return read(ServiceDetail, data, request.operation)

    def create_service(
        self,
        key: ServiceKey,
        *,
        ephemeral: bool,
        protect_threshold: float,
        metadata: Mapping[str, str] | None,
    ) -> Operation[None]:
        """Make a service without instances."""
        form = {
            **_service(key),
            "ephemeral": ephemeral,
            "protectThreshold": _share("protect_threshold", protect_threshold),
            "metadata": names.metadata_text(names.metadata(metadata)),
        }
        yield from self._session.call(Request("POST", SERVICE, form=form, repeat="unsent"))

    def update_service(
        self, key: ServiceKey, *, protect_threshold: float, metadata: Mapping[str, str] | None
    ) -> Operation[None]:
        """Replace threshold and metadata."""
        form = {
            **_service(key),
            "protectThreshold": _share("protect_threshold", protect_threshold),
            "metadata": names.metadata_text(names.metadata(metadata)),
        }
        yield from self._session.call(Request("PUT", SERVICE, form=form))

    def delete_service(self, key: ServiceKey) -> Operation[None]:
        """Delete a service that has no instances."""
        yield from self._session.call(Request("DELETE", SERVICE, query=_service(key)))

    def subscribers_page(self, key: ServiceKey, page: int) -> Operation[Page[Subscriber]]:
        """One page of those who subscribe to a service."""
        return (yield from self._page(Subscriber, f"{SERVICE}/subscribers", _service(key), page))

    def instances(self, key: ServiceKey) -> Operation[tuple[Instance, ...]]:
        """All instances, the disabled ones and those of every cluster included."""
        found: list[Instance] = []
        for cluster in key.clusters or (yield from self._clusters(key)):
            found += yield from self._of_cluster(key, cluster)
        return tuple(sorted(found, key=lambda i: (i.ip, i.port, i.cluster)))

    def _of_cluster(self, key: ServiceKey, cluster: str) -> Operation[list[Instance]]:
        # This list, unlike the client's, takes one cluster at a time.
        query = {**_service(key), "clusterName": cluster}
        request = Request("GET", f"{INSTANCE}/list", query=query)
        try:
            data = yield from self._session.call(request)
        except RequestRejectedError as refusal:
            if refusal.status != 404:
                raise
            return []
        if not isinstance(data, list):
            raise UnexpectedAnswerError(request.operation, status=200, detail="data is not a list")
        return [instance_from(key, entry) for entry in data]

    def _clusters(self, key: ServiceKey) -> Operation[tuple[str, ...]]:
        """Every cluster of a service: without names the server lists DEFAULT only."""
        try:
            service = yield from self.service(key)
        except NotFoundError:
            return ()
        return service.clusters

    def update_instance(self, registration: Registration) -> Operation[None]:
        """Replace weight, enabled and metadata of an instance of anyone's."""
        form = {
            **identity(registration),
            "weight": registration.weight,
            "enabled": registration.enabled,
            "metadata": names.metadata_text(registration.metadata),
            "ephemeral": registration.ephemeral,
        }
        yield from self._session.call(Request("PUT", INSTANCE, form=form))

    def set_health(self, registration: Registration, *, healthy: bool) -> Operation[None]:
        """Set the health of a persistent instance whose cluster has no health check."""
        form = {**identity(registration), "healthy": healthy}
        yield from self._session.call(Request("PUT", "/v3/admin/ns/health/instance", form=form))

    def nodes(self) -> Operation[list[ClusterNode]]:
        """The servers of the cluster as this one sees them."""
        request = Request("GET", "/v3/admin/core/cluster/node/list")
        data = yield from self._session.call(request)
        return [read(ClusterNode, entry, request.operation) for entry in data]

    def state(self) -> Operation[dict[str, str]]:
        """What the server says about itself: version, mode, whether auth is on."""
        request = Request("GET", STATE, anonymous=True)
        data = yield from self._session.call(request)
        return {str(key): str(value) for key, value in dict(data).items() if value is not None}

    def ready(self) -> Operation[bool]:
        """Whether a server answers and serves; never raises for one that does not."""
        try:
            yield from self._session.call(Request("GET", f"{STATE}/readiness", anonymous=True))
        except NacosError:
            return False
        return True

    def users_page(self, page: int) -> Operation[Page[User]]:
        """One page of users."""
        return (yield from self._page(User, "/v3/auth/user/list", {}, page))

    def create_user(self, username: str, password: str) -> Operation[None]:
        """Make a user; logins may be refused for some seconds until servers know it."""
        form = {"username": _filled("username", username), "password": password}
        yield from self._session.call(Request("POST", "/v3/auth/user", form=form, repeat="unsent"))

    def delete_user(self, username: str) -> Operation[None]:
        """Delete a user."""
        query = {"username": _filled("username", username)}
        yield from self._session.call(Request("DELETE", "/v3/auth/user", query=query))

    def roles_page(self, page: int) -> Operation[Page[Role]]:
        """One page of roles."""
        return (yield from self._page(Role, "/v3/auth/role/list", {}, page))

    def add_role(self, role: str, username: str) -> Operation[None]:
        """Give a user a role."""
        form = {"role": _filled("role", role), "username": _filled("username", username)}
        yield from self._session.call(Request("POST", "/v3/auth/role", form=form, repeat="unsent"))

    def remove_role(self, role: str, username: str) -> Operation[None]:
        """Take a role from a user."""
        query = {"role": _filled("role", role), "username": _filled("username", username)}
        yield from self._session.call(Request("DELETE", "/v3/auth/role", query=query))

    def permissions_page(self, page: int) -> Operation[Page[Permission]]:
        """One page of permissions."""
        return (yield from self._page(Permission, "/v3/auth/permission/list", {}, page))

    def add_permission(self, role: str, resource: str, action: str) -> Operation[None]:
        """Let a role do something."""
        form = _permission(role, resource, action)
        request = Request("POST", "/v3/auth/permission", form=form, repeat="unsent")
        yield from self._session.call(request)

    def remove_permission(self, role: str, resource: str, action: str) -> Operation[None]:
        """Forbid it again."""
        query = _permission(role, resource, action)
        yield from self._session.call(Request("DELETE", "/v3/auth/permission", query=query))

    def _page(
        self, wanted: type[T], path: str, query: Mapping[str, object], page: int
    ) -> Operation[Page[T]]:
        request = Request("GET", path, query={**query, "pageNo": page, "pageSize": PAGE_SIZE})
        data = yield from self._session.call(request)
        return read_page(wanted, data, request.operation)


def _service(key: ServiceKey) -> dict[str, object]:
    return {
        "serviceName": key.service,
        "groupName": key.group,
        "namespaceId": key.namespace,
    }


def _namespace(entry: Mapping[str, object], operation: str) -> Namespace:
    renamed = {
        "namespace_id": entry.get("namespace"),
        "name": entry.get("namespaceShowName"),
        "description": entry.get("namespaceDesc"),
        "config_count": entry.get("configCount") or 0,
        "quota": entry.get("quota") or 0,
    }
    return read(Namespace, renamed, operation)


def _namespace_form(namespace: str, name: str, description: str) -> dict[str, object]:
    return {
        "namespaceId": names.namespace(namespace),
        "namespaceName": _filled("name", name),
        "namespaceDesc": description,
    }


def _permission(role: str, resource: str, action: str) -> dict[str, object]:
    if action not in {"r", "w", "rw"}:
        raise InvalidArgumentError("action", action, "r, w or rw")
    return {
        "role": _filled("role", role),
        "resource": _filled("resource", resource),
        "action": action,
    }


def _filled(field: str, value: str) -> str:
    if not value.strip():
        raise InvalidArgumentError(field, value, "not blank")
    return value


def _share(field: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InvalidArgumentError(field, value, "a number from 0 to 1")
    return value
