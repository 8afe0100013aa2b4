"""The fake's `/v3/client/ns` and `/v3/admin/ns`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ._instances import (
    BEAT_INTERVAL,
    BEAT_TIMEOUT,
    DELETE_TIMEOUT,
    FakeInstance,
    Instances,
    ServiceName,
)
from ._wire import FakeRequest, FakeResponse, Refusal, build_failure, build_success

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("NamingRoutes",)


class NamingRoutes:
    """Handles registrations, heartbeats and lists as the server does."""

    def __init__(self, instances: Instances, clock: Callable[[], float]) -> None:
        self._instances = instances
        self._clock = clock

    def build_routes(self) -> dict[tuple[str, str], Callable[[FakeRequest], FakeResponse]]:
        """Method and path to handler."""
        return {
            ("POST", "/v3/client/ns/instance"): self._register_or_beat,
            ("DELETE", "/v3/client/ns/instance"): self._deregister,
            ("GET", "/v3/client/ns/instance/list"): self._list,
        }

    def _register_or_beat(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName", "ip", "port")
        name, ip, port = parse_service_name(request), request.get("ip"), int(request.get("port"))
        if request.get_flag("heartBeat"):
            if self._instances.beat(name, ip, port):
                return build_success("ok")
            return build_failure(200, 21003, "instance not found")
        instance = self._parse_instance(request, ip, port)
        if self._instances.register(name, instance):
            return build_success("ok")
        kinds = ("ephemeral", "persistent")
        new, present = kinds if instance.ephemeral else kinds[::-1]
        message = (
            f"errCode: 400, errMsg: Current service {name[1]}@@{name[2]} is {present} service, "
            f"can't register {new} instance. "
        )
        return build_failure(400, 30000, "server error", message)

    def _parse_instance(self, request: FakeRequest, ip: str, port: int) -> FakeInstance:
        weight = float(request.get("weight", "1.0"))
        if not (math.isfinite(weight) and 0 <= weight <= 10000):
            message = "instance format invalid: The weights range from 0.0 to 10000.0"
            raise Refusal(build_failure(400, 21001, "weight error", message))
        instance = FakeInstance(
            ip=ip,
            port=port,
            weight=weight,
            enabled=request.get_flag("enabled", default=True),
            ephemeral=request.get_flag("ephemeral", default=True),
            cluster=request.get("clusterName", "DEFAULT"),
            metadata=parse_metadata(request.get("metadata")),
            last_beat_at=self._clock(),
            healthy=request.get_flag("healthy", default=True),
        )
        shortest = min(
            instance.get_milliseconds(BEAT_TIMEOUT, 15000),
            instance.get_milliseconds(DELETE_TIMEOUT, 30000),
        )
        if shortest < instance.get_milliseconds(BEAT_INTERVAL, 5000):
            message = "Instance 'heart beat interval' must less than 'heart beat timeout'"
            raise Refusal(build_failure(400, 21004, "instance error", message))
        return instance

    def _deregister(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName", "ip", "port")
        ephemeral = request.get_flag("ephemeral", default=True)
        port = int(request.get("port"))
        self._instances.remove(
            parse_service_name(request), request.get("ip"), port, ephemeral=ephemeral
        )
        return build_success("ok")

    def _list(self, request: FakeRequest) -> FakeResponse:
        request.require("serviceName")
        name = parse_service_name(request)
        # Without a cluster, servers up to 3.2.0 list DEFAULT only, and all for a lone comma; they
        # ignore healthyOnly.
        clusters = [each for each in request.get("clusterName", "DEFAULT").split(",") if each]
        return build_success(
            [
                render_instance(name, each)
                for each in self._instances.list_instances(name)
                if each.enabled and (each.cluster in clusters or not clusters)
            ]
        )


def render_instance(name: ServiceName, instance: FakeInstance) -> dict[str, Any]:
    """An instance as an entry of a list."""
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
        "instanceHeartBeatInterval": instance.get_milliseconds(BEAT_INTERVAL, 5000),
        "instanceHeartBeatTimeOut": instance.get_milliseconds(BEAT_TIMEOUT, 15000),
        "ipDeleteTimeout": instance.get_milliseconds(DELETE_TIMEOUT, 30000),
    }


def parse_service_name(request: FakeRequest) -> ServiceName:
    """The service that a request names."""
    return (
        request.get("namespaceId", "public"),
        request.get("groupName", "DEFAULT_GROUP"),
        request.get("serviceName"),
    )


def parse_metadata(text: str) -> dict[str, str]:
    """Metadata from JSON, or from pairs like `k=v,k2=v2`."""
    if not text:
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except ValueError:
        return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
