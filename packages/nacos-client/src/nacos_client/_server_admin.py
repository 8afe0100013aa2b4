"""Administer services, namespaces, users and servers: operations without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ._keys import ServiceKey
from ._naming import parse_instance, to_identity, validate_registration
from ._session import Session
from ._steps import Operation, Request
from ._validation import encode_metadata, validate_metadata, validate_namespace
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
from .models import Instance, Registration

__all__ = ("ServerAdmin",)

T = TypeVar("T")

_NAMESPACE = "/v3/admin/core/namespace"
_SERVICE = "/v3/admin/ns/service"
_INSTANCE = "/v3/admin/ns/instance"
_STATE = "/v3/admin/core/state"
_PAGE_SIZE = 500


class ServerAdmin:
    """Administers everything but documents. Needs admin permissions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def namespaces(self) -> Operation[list[Namespace]]:
        """All namespaces."""
        request = Request("GET", f"{_NAMESPACE}/list")
        data = yield from self._session.call(request)
        return [_parse_namespace(entry, request.operation) for entry in _as_list(data, request)]

    def namespace(self, namespace: str) -> Operation[Namespace]:
        """One namespace by its id.

        Raises:
            NotFoundError: there is no such namespace.
        """
        query = {"namespaceId": validate_namespace(namespace)}
        request = Request("GET", _NAMESPACE, query=query)
        data = yield from self._session.call(request)
        return _parse_namespace(data, request.operation)

    def create_namespace(self, namespace: str, name: str, description: str) -> Operation[None]:
        """Create a namespace."""
        form = _build_namespace(namespace, name, description)
        yield from self._session.call(Request("POST", _NAMESPACE, form=form, retry="unsent"))

    def update_namespace(self, namespace: str, name: str, description: str) -> Operation[None]:
        """Change the display name and description."""
        form = _build_namespace(namespace, name, description)
        yield from self._session.call(Request("PUT", _NAMESPACE, form=form))

    def delete_namespace(self, namespace: str) -> Operation[None]:
        """Delete a namespace."""
        query = {"namespaceId": validate_namespace(namespace)}
        yield from self._session.call(Request("DELETE", _NAMESPACE, query=query))

    def read_services_page(
        self, namespace: str, page: int, *, group: str, service: str, with_empty: bool
    ) -> Operation[Page[ServiceSummary]]:
        """One page of the services whose names contain `group` and `service`."""
        query = {
            "namespaceId": validate_namespace(namespace),
            "groupNameParam": group or None,
            "serviceNameParam": service or None,
            "ignoreEmptyService": not with_empty,
        }
        return (yield from self._read_page(ServiceSummary, f"{_SERVICE}/list", query, page))

    def service_names(self, namespace: str, group: str) -> Operation[list[str]]:
        """The names of all services of a group that have instances, sorted."""
        names: set[str] = set()
        page = 1
        while True:
            services = yield from self.read_services_page(
                namespace, page, group=group, service="", with_empty=False
            )
            names |= {each.name for each in services.items if each.group == group or not group}
            if services.last:
                return sorted(names)
            page += 1

    def service(self, key: ServiceKey) -> Operation[ServiceDetail]:
        """One service.

        Raises:
            NotFoundError: there is no such service.
        """
        request = Request("GET", _SERVICE, query=_to_parameters(key))
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
        """Create a service without instances."""
        form = {
            **_to_parameters(key),
            "ephemeral": ephemeral,
            "protectThreshold": _validate_share("protect_threshold", protect_threshold),
            "metadata": encode_metadata(validate_metadata(metadata)),
        }
        yield from self._session.call(Request("POST", _SERVICE, form=form, retry="unsent"))

    def update_service(
        self, key: ServiceKey, *, protect_threshold: float, metadata: Mapping[str, str] | None
    ) -> Operation[None]:
        """Replace the protection threshold and the metadata of a service."""
        form = {
            **_to_parameters(key),
            "protectThreshold": _validate_share("protect_threshold", protect_threshold),
            "metadata": encode_metadata(validate_metadata(metadata)),
        }
        yield from self._session.call(Request("PUT", _SERVICE, form=form))

    def delete_service(self, key: ServiceKey) -> Operation[None]:
        """Delete a service that has no instances."""
        yield from self._session.call(Request("DELETE", _SERVICE, query=_to_parameters(key)))

    def read_subscribers_page(self, key: ServiceKey, page: int) -> Operation[Page[Subscriber]]:
        """One page of the subscribers of a service."""
        path = f"{_SERVICE}/subscribers"
        return (yield from self._read_page(Subscriber, path, _to_parameters(key), page))

    def instances(self, key: ServiceKey) -> Operation[tuple[Instance, ...]]:
        """All instances, the disabled ones and those of every cluster included."""
        instances: list[Instance] = []
        for cluster in key.clusters or (yield from self._list_clusters(key)):
            instances += yield from self._list_cluster(key, cluster)
        return tuple(sorted(instances, key=lambda each: (each.ip, each.port, each.cluster)))

    def _list_cluster(self, key: ServiceKey, cluster: str) -> Operation[list[Instance]]:
        # This list, unlike the client's, takes one cluster at a time.
        query = {**_to_parameters(key), "clusterName": cluster}
        request = Request("GET", f"{_INSTANCE}/list", query=query)
        try:
            data = yield from self._session.call(request)
        except RequestRejectedError as refusal:
            if refusal.status != 404:
                raise
            return []
        return [parse_instance(key, entry, request.operation) for entry in _as_list(data, request)]

    def _list_clusters(self, key: ServiceKey) -> Operation[tuple[str, ...]]:
        """Every cluster of a service; without their names the server would list DEFAULT only."""
        try:
            service = yield from self.service(key)
        except NotFoundError:
            return ()
        return service.clusters

    def update_instance(self, registration: Registration) -> Operation[None]:
        """Replace weight, enabled and metadata of an instance of any client."""
        registration = validate_registration(registration)
        form = {
            **to_identity(registration),
            "weight": registration.weight,
            "enabled": registration.enabled,
            "metadata": encode_metadata(registration.metadata),
            "ephemeral": registration.ephemeral,
        }
        yield from self._session.call(Request("PUT", _INSTANCE, form=form))

    def set_health(self, registration: Registration, *, healthy: bool) -> Operation[None]:
        """Set the health of a persistent instance whose cluster has no health check."""
        form = {**to_identity(validate_registration(registration)), "healthy": healthy}
        yield from self._session.call(Request("PUT", "/v3/admin/ns/health/instance", form=form))

    def nodes(self) -> Operation[list[ClusterNode]]:
        """The servers of the cluster as this one sees them."""
        request = Request("GET", "/v3/admin/core/cluster/node/list")
        data = yield from self._session.call(request)
        return [read(ClusterNode, entry, request.operation) for entry in _as_list(data, request)]

    def state(self) -> Operation[dict[str, str]]:
        """The server's own description: version, mode, whether authentication is on."""
        request = Request("GET", _STATE, anonymous=True)
        data = yield from self._session.call(request)
        if not isinstance(data, dict):
            raise UnexpectedAnswerError(request.operation, status=200, detail="data is no mapping")
        return {str(key): str(value) for key, value in data.items() if value is not None}

    def ready(self) -> Operation[bool]:
        """Whether a server responds and is ready; False when none can be reached."""
        try:
            yield from self._session.call(Request("GET", f"{_STATE}/readiness", anonymous=True))
        except NacosError:
            return False
        return True

    def read_users_page(self, page: int) -> Operation[Page[User]]:
        """One page of users."""
        return (yield from self._read_page(User, "/v3/auth/user/list", {}, page))

    def create_user(self, username: str, password: str) -> Operation[None]:
        """Create a user; its logins may be refused for some seconds, until all servers know it."""
        form = {"username": _validate_filled("username", username), "password": password}
        yield from self._session.call(Request("POST", "/v3/auth/user", form=form, retry="unsent"))

    def delete_user(self, username: str) -> Operation[None]:
        """Delete a user."""
        query = {"username": _validate_filled("username", username)}
        yield from self._session.call(Request("DELETE", "/v3/auth/user", query=query))

    def read_roles_page(self, page: int) -> Operation[Page[Role]]:
        """One page of roles."""
        return (yield from self._read_page(Role, "/v3/auth/role/list", {}, page))

    def add_role(self, role: str, username: str) -> Operation[None]:
        """Give a user a role."""
        form = {
            "role": _validate_filled("role", role),
            "username": _validate_filled("username", username),
        }
        yield from self._session.call(Request("POST", "/v3/auth/role", form=form, retry="unsent"))

    def remove_role(self, role: str, username: str) -> Operation[None]:
        """Take a role from a user."""
        query = {
            "role": _validate_filled("role", role),
            "username": _validate_filled("username", username),
        }
        yield from self._session.call(Request("DELETE", "/v3/auth/role", query=query))

    def read_permissions_page(self, page: int) -> Operation[Page[Permission]]:
        """One page of permissions."""
        return (yield from self._read_page(Permission, "/v3/auth/permission/list", {}, page))

    def add_permission(self, role: str, resource: str, action: str) -> Operation[None]:
        """Grant a role a permission."""
        form = _build_permission(role, resource, action)
        request = Request("POST", "/v3/auth/permission", form=form, retry="unsent")
        yield from self._session.call(request)

    def remove_permission(self, role: str, resource: str, action: str) -> Operation[None]:
        """Revoke a permission of a role."""
        query = _build_permission(role, resource, action)
        yield from self._session.call(Request("DELETE", "/v3/auth/permission", query=query))

    def _read_page(
        self, model: type[T], path: str, query: Mapping[str, object], page: int
    ) -> Operation[Page[T]]:
        request = Request("GET", path, query={**query, "pageNo": page, "pageSize": _PAGE_SIZE})
        data = yield from self._session.call(request)
        return read_page(model, data, request.operation)


def _to_parameters(key: ServiceKey) -> dict[str, object]:
    return {
        "serviceName": key.service,
        "groupName": key.group,
        "namespaceId": key.namespace,
    }


def _parse_namespace(entry: Any, operation: str) -> Namespace:
    if not isinstance(entry, dict):
        raise UnexpectedAnswerError(operation, status=200, detail="data is not a namespace")
    fields = {
        "namespace_id": entry.get("namespace"),
        "name": entry.get("namespaceShowName"),
        "description": entry.get("namespaceDesc"),
        "config_count": entry.get("configCount") or 0,
        "quota": entry.get("quota") or 0,
    }
    return read(Namespace, fields, operation)


def _build_namespace(namespace: str, name: str, description: str) -> dict[str, object]:
    return {
        "namespaceId": validate_namespace(namespace),
        "namespaceName": _validate_filled("name", name),
        "namespaceDesc": description,
    }


def _build_permission(role: str, resource: str, action: str) -> dict[str, object]:
    if action not in {"r", "w", "rw"}:
        raise InvalidArgumentError("action", action, "r, w or rw")
    return {
        "role": _validate_filled("role", role),
        "resource": _validate_filled("resource", resource),
        "action": action,
    }


def _validate_filled(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgumentError(field, value, "not blank")
    return value


def _validate_share(field: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgumentError(field, value, "a number from 0 to 1")
    return value


def _as_list(data: Any, request: Request) -> list[Any]:
    if not isinstance(data, list):
        raise UnexpectedAnswerError(request.operation, status=200, detail="data is not a list")
    return data
