"""The fake's `/v3/client/ns` and `/v3/admin/ns`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ._instances import DELETE, INTERVAL, TIMEOUT, FakeInstance, Instances, ServiceName
from ._wire import Call, Refusal, Reply, failure, success

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("NamingRoutes",)


class NamingRoutes:
    """Registers and lists instances as the server does."""

    def __init__(self, instances: Instances, clock: Callable[[], float]) -> None:
        self._instances = instances
        self._clock = clock

    def table(self) -> dict[tuple[str, str], Callable[[Call], Reply]]:
        """Method and path to handler."""
        return {
            ("POST", "/v3/client/ns/instance"): self._register_or_beat,
            ("DELETE", "/v3/client/ns/instance"): self._deregister,
            ("GET", "/v3/client/ns/instance/list"): self._list,
        }

    def _register_or_beat(self, call: Call) -> Reply:
        call.need("serviceName", "ip", "port")
        name, ip, port = name_of(call), call.get("ip"), int(call.get("port"))
        if call.flag("heartBeat"):
            if self._instances.beat(name, ip, port):
                return success("ok")
            return failure(200, 21003, "instance not found")
        instance = self._instance(call, ip, port)
        if self._instances.register(name, instance):
            return success("ok")
        kinds = ("ephemeral", "persistent")
        new, there = kinds if instance.ephemeral else kinds[::-1]
        words = (
            f"errCode: 400, errMsg: Current service {name[1]}@@{name[2]} is {there} service, "
            f"can't register {new} instance. "
        )
        return failure(400, 30000, "server error", words)

    def _instance(self, call: Call, ip: str, port: int) -> FakeInstance:
        weight = float(call.get("weight", "1.0"))
        if not (math.isfinite(weight) and 0 <= weight <= 10000):
            words = "instance format invalid: The weights range from 0.0 to 10000.0"
            raise Refusal(failure(400, 21001, "weight error", words))
        instance = FakeInstance(
            ip=ip,
            port=port,
            weight=weight,
            enabled=call.flag("enabled", default=True),
            ephemeral=call.flag("ephemeral", default=True),
            cluster=call.get("clusterName", "DEFAULT"),
            metadata=metadata_of(call.get("metadata")),
            beaten_at=self._clock(),
            healthy=call.flag("healthy", default=True),
        )
        shortest = min(instance.milliseconds(TIMEOUT, 15000), instance.milliseconds(DELETE, 30000))
        if shortest < instance.milliseconds(INTERVAL, 5000):
            words = "Instance 'heart beat interval' must less than 'heart beat timeout'"
            raise Refusal(failure(400, 21004, "instance error", words))
        return instance

    def _deregister(self, call: Call) -> Reply:
        call.need("serviceName", "ip", "port")
        ephemeral = call.flag("ephemeral", default=True)
        port = int(call.get("port"))
        self._instances.remove(name_of(call), call.get("ip"), port, ephemeral=ephemeral)
        return success("ok")

    def _list(self, call: Call) -> Reply:
        call.need("serviceName")
        name = name_of(call)
        # Servers up to 3.2.0 take no cluster for DEFAULT, and ignore healthyOnly.
        clusters = call.get("clusterName", "DEFAULT").split(",")
        found = self._instances.of(name)
        return success([view(name, i) for i in found if i.enabled and i.cluster in clusters])


def view(name: ServiceName, instance: FakeInstance) -> dict[str, Any]:
    """An instance as lists show it."""
    return {
        "ip": instance.ip,
        "port": instance.port,
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "ephemeral": instance.ephemeral,
        "clusterName": instance.cluster,
        "serviceName": f"{name[1]}@@{name[2]}",
        "metadata": instance.metadata,
        "instanceHeartBeatInterval": instance.milliseconds(INTERVAL, 5000),
        "instanceHeartBeatTimeOut": instance.milliseconds(TIMEOUT, 15000),
        "ipDeleteTimeout": instance.milliseconds(DELETE, 30000),
    }


def name_of(call: Call) -> ServiceName:
    """The service a call names."""
    return (
        call.get("namespaceId", "public"),
        call.get("groupName", "DEFAULT_GROUP"),
        call.get("serviceName"),
    )


def metadata_of(text: str) -> dict[str, str]:
    """Labels from JSON, or the fallback `k=v,k2=v2`."""
    if not text:
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except ValueError:
        return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
