"""The fake's services, instances, namespaces, servers and users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._instances import FakeService, Instances
from ._naming_api import parse_metadata, parse_service_name, render_instance
from ._users import FakeUser, Users
from ._wire import FakeRequest, FakeResponse, Refusal, build_failure, build_page, build_success

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._documents import Documents
    from ._instances import FakeInstance, ServiceName

__all__ = ("AdminRoutes",)

_SERVICE = "/v3/admin/ns/service"
_INSTANCE = "/v3/admin/ns/instance"
_NAMESPACE = "/v3/admin/core/namespace"
_NODE = {"ip": "127.0.0.1", "port": 8848, "state": "UP", "address": "127.0.0.1:8848"}


class AdminRoutes:
    """Handles the admin API, except for documents."""

    def __init__(self, documents: Documents, instances: Instances, users: Users) -> None:
        self._documents = documents
        self._instances = instances
        self._users = users
        self._namespaces: dict[str, tuple[str, str]] = {"public": ("public", "Default Namespace")}

    def build_routes(self) -> dict[tuple[str, str], Callable[[FakeRequest], FakeResponse]]:
        """Method and path to handler."""
        return {
            ("GET", f"{_SERVICE}/list"): self._list_services,
            ("GET", f"{_SERVICE}/subscribers"): lambda request: build_page(request, []),
            ("GET", _SERVICE): self._read_service,
            ("POST", _SERVICE): self._create_service,
            ("PUT", _SERVICE): self._update_service,
            ("DELETE", _SERVICE): self._delete_service,
            ("GET", f"{_INSTANCE}/list"): self._list_instances,
            ("PUT", _INSTANCE): self._update_instance,
            ("PUT", "/v3/admin/ns/health/instance"): self._set_health,
            ("GET", f"{_NAMESPACE}/list"): self._list_namespaces,
            ("GET", _NAMESPACE): self._read_namespace,
            ("POST", _NAMESPACE): self._create_namespace,
            ("PUT", _NAMESPACE): self._update_namespace,
            ("DELETE", _NAMESPACE): self._delete_namespace,
            ("GET", "/v3/admin/core/cluster/node/list"): lambda _: build_success([_NODE]),
            ("GET", "/v3/admin/core/state"): self._read_state,
            ("GET", "/v3/auth/user/list"): self._list_users,
            ("POST", "/v3/auth/user"): self._create_user,
            ("DELETE", "/v3/auth/user"): self._delete_user,
            ("GET", "/v3/auth/role/list"): self._list_roles,
            ("POST", "/v3/auth/role"): self._add_role,
            ("DELETE", "/v3/auth/role"): self._remove_role,
            ("GET", "/v3/auth/permission/list"): self._list_permissions,
            ("POST", "/v3/auth/permission"): self._add_permission,
            ("DELETE", "/v3/auth/permission"): self._remove_permission,
        }

    def _list_services(self, request: FakeRequest) -> FakeResponse:
        self._instances.expire()
        namespace = request.get("namespaceId", "public")
        services = [
            _render_service(name, list(service.instances.values()))
            for name, service in sorted(self._instances.services.items())
            if name[0] == namespace
            and request.get("groupNameParam") in name[1]
            and request.get("serviceNameParam") in name[2]
            and not (request.get_flag("ignoreEmptyService") and not service.instances)
        ]
        return build_page(request, services)

    def _read_service(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        name = parse_service_name(request)
        service = self._find_service(name)
        clusters: dict[str, object] = {each.cluster: {} for each in service.instances.values()}
        return build_success(
            {
                "namespaceId": name[0],
                "serviceName": name[2],
                "groupName": name[1],
                "clusterMap": clusters,
                "metadata": service.metadata,
                "protectThreshold": service.protect_threshold,
                "ephemeral": service.ephemeral,
            }
        )

    def _create_service(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        name = parse_service_name(request)
        existing = self._instances.services.get(name)
        if existing is not None and (existing.created or existing.instances):
            message = f"specified service {name[1]}@@{name[2]} already exists!"
            return build_failure(400, 21007, "service already exist", message)
        # Persistent by default, as in the real server.
        service = FakeService(request.get_flag("ephemeral"), created=True)
        self._instances.services[name] = service
        return self._configure(service, request)

    def _update_service(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        return self._configure(self._find_service(parse_service_name(request)), request)

    def _configure(self, service: FakeService, request: FakeRequest) -> FakeResponse:
        service.metadata = parse_metadata(request.get("metadata"))
        service.protect_threshold = float(request.get("protectThreshold", "0"))
        return build_success("ok")

    def _delete_service(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        name = parse_service_name(request)
        if self._find_service(name).instances:
            message = f"Service {name[1]}@@{name[2]} is not empty, can't be delete."
            return build_failure(400, 21009, "service delete failure", message)
        del self._instances.services[name]
        return build_success("ok")

    def _find_service(self, name: ServiceName) -> FakeService:
        self._instances.expire()
        service = self._instances.services.get(name)
        if service is None:
            message = f"service not found, namespace: {name[0]}, serviceName: {name[1]}@@{name[2]}"
            raise Refusal(build_failure(400, 21008, "service not exist", message))
        return service

    def _list_instances(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        name = parse_service_name(request)
        cluster = request.get("clusterName", "DEFAULT")
        instances = [
            each for each in self._instances.list_instances(name) if each.cluster == cluster
        ]
        if not instances:
            return build_failure(404, 30000, "server error", f"cluster {cluster} is not found!")
        return build_success([render_instance(name, each) for each in instances])

    def _find_instance(self, request: FakeRequest) -> FakeInstance:
        request.require("serviceName", "ip", "port")
        for each in self._instances.list_instances(parse_service_name(request)):
            if (each.ip, str(each.port)) == (request.get("ip"), request.get("port")):
                return each
        raise Refusal(build_failure(404, 20004, "resource not found", "no matched ip found!"))

    def _update_instance(self, request: FakeRequest) -> FakeResponse:
        instance = self._find_instance(request)
        instance.weight = float(request.get("weight", "1.0"))
        instance.enabled = request.get_flag("enabled", default=True)
        instance.metadata = parse_metadata(request.get("metadata"))
        return build_success("ok")

    def _set_health(self, request: FakeRequest) -> FakeResponse:
        self._find_instance(request)
        _, group, service = parse_service_name(request)
        # Every cluster has a TCP check by default, and the fake has no way to change that.
        message = f"health check is still working, service: {group}@@{service}, cluster: DEFAULT"
        return build_failure(400, 30000, "server error", message)

    def _list_namespaces(self, _: FakeRequest) -> FakeResponse:
        return build_success([self._render_namespace(each) for each in self._namespaces])

    def _read_namespace(self, request: FakeRequest) -> FakeResponse:
        return build_success(self._render_namespace(self._find_namespace(request)))

    def _create_namespace(self, request: FakeRequest) -> FakeResponse:
        request.require("namespaceId", "namespaceName")
        if request.get("namespaceId") in self._namespaces:
            message = f"namespaceId [{request.get('namespaceId')}] already exist"
            return build_failure(400, 22002, "namespace already exist", message)
        return self._store_namespace(request.get("namespaceId"), request)

    def _update_namespace(self, request: FakeRequest) -> FakeResponse:
        return self._store_namespace(self._find_namespace(request), request)

    def _store_namespace(self, namespace: str, request: FakeRequest) -> FakeResponse:
        self._namespaces[namespace] = (request.get("namespaceName"), request.get("namespaceDesc"))
        return build_success(True)

    def _delete_namespace(self, request: FakeRequest) -> FakeResponse:
        self._namespaces.pop(request.get("namespaceId"), None)
        return build_success(True)

    def _find_namespace(self, request: FakeRequest) -> str:
        namespace = request.get("namespaceId")
        if namespace not in self._namespaces:
            message = f"namespaceId [ {namespace} ] not exist"
            raise Refusal(build_failure(404, 22001, "namespace not exist", message))
        return namespace

    def _render_namespace(self, namespace: str) -> dict[str, Any]:
        name, description = self._namespaces[namespace]
        return {
            "namespace": namespace,
            "namespaceShowName": name,
            "namespaceDesc": description,
            "quota": 200,
            "configCount": sum(key[0] == namespace for key in self._documents.stored),
            "type": 0 if namespace == "public" else 1,
        }

    def _read_state(self, _: FakeRequest) -> FakeResponse:
        return build_success(
            {
                "version": "3.1.0-FAKE",
                "startup_mode": "standalone",
                "auth_enabled": json.dumps(self._users.enabled),
                "function_mode": None,
            }
        )

    def _list_users(self, request: FakeRequest) -> FakeResponse:
        return build_page(
            request,
            [{"username": name, "password": "$2a$10$hash"} for name in self._users.accounts],
        )

    def _create_user(self, request: FakeRequest) -> FakeResponse:
        request.require("username", "password")
        if request.get("username") in self._users.accounts:
            # The real server's auth filter swallows the exception.
            return FakeResponse(200)
        self._users.accounts[request.get("username")] = FakeUser(
            request.get("password"), admin=False
        )
        return build_success("create user ok!")

    def _delete_user(self, request: FakeRequest) -> FakeResponse:
        self._users.accounts.pop(request.get("username"), None)
        return build_success("delete user ok!")

    def _list_roles(self, request: FakeRequest) -> FakeResponse:
        admins = [(name, "ROLE_ADMIN") for name, user in self._users.accounts.items() if user.admin]
        pairs = admins + sorted(self._users.roles)
        return build_page(request, [{"role": role, "username": name} for name, role in pairs])

    def _add_role(self, request: FakeRequest) -> FakeResponse:
        request.require("role", "username")
        self._users.roles.add((request.get("username"), request.get("role")))
        return build_success("add role ok!")

    def _remove_role(self, request: FakeRequest) -> FakeResponse:
        self._users.roles.discard((request.get("username"), request.get("role")))
        return build_success(f"delete role of user {request.get('username')} ok!")

    def _list_permissions(self, request: FakeRequest) -> FakeResponse:
        rows = [
            {"role": role, "resource": resource, "action": action}
            for role, resource, action in sorted(self._users.permissions)
        ]
        return build_page(request, rows)

    def _add_permission(self, request: FakeRequest) -> FakeResponse:
        request.require("role", "resource", "action")
        self._users.permissions.add(_parse_permission(request))
        return build_success("add permission ok!")

    def _remove_permission(self, request: FakeRequest) -> FakeResponse:
        self._users.permissions.discard(_parse_permission(request))
        return build_success("delete permission ok!")


def _parse_permission(request: FakeRequest) -> tuple[str, str, str]:
    return (request.get("role"), request.get("resource"), request.get("action"))


def _render_service(name: ServiceName, instances: list[FakeInstance]) -> dict[str, Any]:
    return {
        "name": name[2],
        "groupName": name[1],
        "clusterCount": len({each.cluster for each in instances}),
        "ipCount": len(instances),
        "healthyInstanceCount": sum(each.healthy for each in instances),
        "triggerFlag": "false",
    }
