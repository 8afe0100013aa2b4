"""The fake's services, instances, namespaces, servers and users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._instances import FakeService, Instances
from ._naming_api import metadata_of, name_of, view
from ._users import User, Users
from ._wire import Call, Refusal, Reply, failure, page_of, success

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._documents import Documents
    from ._instances import FakeInstance, ServiceName

__all__ = ("AdminRoutes",)

SERVICE = "/v3/admin/ns/service"
INSTANCE = "/v3/admin/ns/instance"
NAMESPACE = "/v3/admin/core/namespace"
NODE = {"ip": "127.0.0.1", "port": 8848, "state": "UP", "address": "127.0.0.1:8848"}


class AdminRoutes:
    """Everything of the admin API that is not about documents."""

    def __init__(self, documents: Documents, instances: Instances, users: Users) -> None:
        self._documents = documents
        self._instances = instances
        self._users = users
        self._namespaces: dict[str, tuple[str, str]] = {"public": ("public", "Default Namespace")}

    def table(self) -> dict[tuple[str, str], Callable[[Call], Reply]]:
        """Method and path to handler."""
        return {
            ("GET", f"{SERVICE}/list"): self._services,
            ("GET", f"{SERVICE}/subscribers"): lambda call: page_of(call, []),
            ("GET", SERVICE): self._service,
            ("POST", SERVICE): self._create_service,
            ("PUT", SERVICE): self._update_service,
            ("DELETE", SERVICE): self._delete_service,
            ("GET", f"{INSTANCE}/list"): self._all_instances,
            ("PUT", INSTANCE): self._update_instance,
            ("PUT", "/v3/admin/ns/health/instance"): self._set_health,
            ("GET", f"{NAMESPACE}/list"): self._list_namespaces,
            ("GET", NAMESPACE): self._namespace,
            ("POST", NAMESPACE): self._create_namespace,
            ("PUT", NAMESPACE): self._update_namespace,
            ("DELETE", NAMESPACE): self._delete_namespace,
            ("GET", "/v3/admin/core/cluster/node/list"): lambda _: success([NODE]),
            ("GET", "/v3/admin/core/state"): self._state,
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

    def _services(self, call: Call) -> Reply:
        self._instances.expire()
        namespace = call.get("namespaceId", "public")
        found = [
            _service_summary(name, list(service.instances.values()))
            for name, service in sorted(self._instances.services.items())
            if name[0] == namespace
            and call.get("groupNameParam") in name[1]
            and call.get("serviceNameParam") in name[2]
            and not (call.flag("ignoreEmptyService") and not service.instances)
        ]
        return page_of(call, found)

    def _service(self, call: Call) -> Reply:
        call.need("serviceName")
        name = name_of(call)
        service = self._known(name)
        clusters: dict[str, object] = {each.cluster: {} for each in service.instances.values()}
        return success(
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

    def _create_service(self, call: Call) -> Reply:
        call.need("serviceName")
        name = name_of(call)
        there = self._instances.services.get(name)
        if there is not None and (there.created or there.instances):
            words = f"specified service {name[1]}@@{name[2]} already exists!"
            return failure(400, 21007, "service already exist", words)
        # Persistent unless said otherwise: the real server's default, too.
        service = FakeService(call.flag("ephemeral"), created=True)
        self._instances.services[name] = service
        return self._configure(service, call)

    def _update_service(self, call: Call) -> Reply:
        call.need("serviceName")
        return self._configure(self._known(name_of(call)), call)

    def _configure(self, service: FakeService, call: Call) -> Reply:
        service.metadata = metadata_of(call.get("metadata"))
        service.protect_threshold = float(call.get("protectThreshold", "0"))
        return success("ok")

    def _delete_service(self, call: Call) -> Reply:
        call.need("serviceName")
        name = name_of(call)
        if self._known(name).instances:
            words = f"Service {name[1]}@@{name[2]} is not empty, can't be delete."
            return failure(400, 21009, "service delete failure", words)
        del self._instances.services[name]
        return success("ok")

    def _known(self, name: ServiceName) -> FakeService:
        self._instances.expire()
        service = self._instances.services.get(name)
        if service is None:
            words = f"service not found, namespace: {name[0]}, serviceName: {name[1]}@@{name[2]}"
            raise Refusal(failure(400, 21008, "service not exist", words))
        return service

    def _all_instances(self, call: Call) -> Reply:
        call.need("serviceName")
        name = name_of(call)
        cluster = call.get("clusterName", "DEFAULT")
        found = [each for each in self._instances.of(name) if each.cluster == cluster]
        if not found:
            return failure(404, 30000, "server error", f"cluster {cluster} is not found!")
        return success([view(name, each) for each in found])

    def _instance(self, call: Call) -> FakeInstance:
        call.need("serviceName", "ip", "port")
        for each in self._instances.of(name_of(call)):
            if (each.ip, str(each.port)) == (call.get("ip"), call.get("port")):
                return each
        raise Refusal(failure(404, 20004, "resource not found", "no matched ip found!"))

    def _update_instance(self, call: Call) -> Reply:
        instance = self._instance(call)
        instance.weight = float(call.get("weight", "1.0"))
        instance.enabled = call.flag("enabled", default=True)
        instance.metadata = metadata_of(call.get("metadata"))
        return success("ok")

    def _set_health(self, call: Call) -> Reply:
        self._instance(call)
        _, group, service = name_of(call)
        # Every cluster has a TCP check unless told otherwise, and the fake cannot be told.
        words = f"health check is still working, service: {group}@@{service}, cluster: DEFAULT"
        return failure(400, 30000, "server error", words)

    def _list_namespaces(self, _: Call) -> Reply:
        return success([self._namespace_view(each) for each in self._namespaces])

    def _namespace(self, call: Call) -> Reply:
        return success(self._namespace_view(self._known_namespace(call)))

    def _create_namespace(self, call: Call) -> Reply:
        call.need("namespaceId", "namespaceName")
        if call.get("namespaceId") in self._namespaces:
            words = f"namespaceId [{call.get('namespaceId')}] already exist"
            return failure(400, 22002, "namespace already exist", words)
        return self._name_namespace(call.get("namespaceId"), call)

    def _update_namespace(self, call: Call) -> Reply:
        return self._name_namespace(self._known_namespace(call), call)

    def _name_namespace(self, namespace: str, call: Call) -> Reply:
        self._namespaces[namespace] = (call.get("namespaceName"), call.get("namespaceDesc"))
        return success(True)

    def _delete_namespace(self, call: Call) -> Reply:
        self._namespaces.pop(call.get("namespaceId"), None)
        return success(True)

    def _known_namespace(self, call: Call) -> str:
        namespace = call.get("namespaceId")
        if namespace not in self._namespaces:
            words = f"namespaceId [ {namespace} ] not exist"
            raise Refusal(failure(404, 22001, "namespace not exist", words))
        return namespace

    def _namespace_view(self, namespace: str) -> dict[str, Any]:
        name, description = self._namespaces[namespace]
        return {
            "namespace": namespace,
            "namespaceShowName": name,
            "namespaceDesc": description,
            "quota": 200,
            "configCount": sum(key[0] == namespace for key in self._documents.stored),
            "type": 0 if namespace == "public" else 1,
        }

    def _state(self, _: Call) -> Reply:
        return success(
            {
                "version": "3.1.0-FAKE",
                "startup_mode": "standalone",
                "auth_enabled": json.dumps(self._users.enabled),
                "function_mode": None,
            }
        )

    def _list_users(self, call: Call) -> Reply:
        return page_of(
            call, [{"username": name, "password": "$2a$10$hash"} for name in self._users.known]
        )

    def _create_user(self, call: Call) -> Reply:
        call.need("username", "password")
        if call.get("username") in self._users.known:
            # The real server's auth filter swallows the exception.
            return Reply(200)
        self._users.known[call.get("username")] = User(call.get("password"), admin=False)
        return success("create user ok!")

    def _delete_user(self, call: Call) -> Reply:
        self._users.known.pop(call.get("username"), None)
        return success("delete user ok!")

    def _list_roles(self, call: Call) -> Reply:
        admins = [(name, "ROLE_ADMIN") for name, user in self._users.known.items() if user.admin]
        pairs = admins + sorted(self._users.roles)
        return page_of(call, [{"role": role, "username": name} for name, role in pairs])

    def _add_role(self, call: Call) -> Reply:
        call.need("role", "username")
        self._users.roles.add((call.get("username"), call.get("role")))
        return success("add role ok!")

    def _remove_role(self, call: Call) -> Reply:
        self._users.roles.discard((call.get("username"), call.get("role")))
        return success(f"delete role of user {call.get('username')} ok!")

    def _list_permissions(self, call: Call) -> Reply:
        rows = [
            {"role": role, "resource": resource, "action": action}
            for role, resource, action in sorted(self._users.permissions)
        ]
        return page_of(call, rows)

    def _add_permission(self, call: Call) -> Reply:
        call.need("role", "resource", "action")
        self._users.permissions.add(_permission(call))
        return success("add permission ok!")

    def _remove_permission(self, call: Call) -> Reply:
        self._users.permissions.discard(_permission(call))
        return success("delete permission ok!")


def _permission(call: Call) -> tuple[str, str, str]:
    return (call.get("role"), call.get("resource"), call.get("action"))


def _service_summary(name: ServiceName, instances: list[FakeInstance]) -> dict[str, Any]:
    return {
        "name": name[2],
        "groupName": name[1],
        "clusterCount": len({each.cluster for each in instances}),
        "ipCount": len(instances),
        "healthyInstanceCount": sum(each.healthy for each in instances),
        "triggerFlag": "false",
    }
