"""How a client behaves: the keyword arguments that the sync and the async client share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import httpx
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from microservice_core import InstanceFilter, InstanceQuery

from .calling.fallbacks import FallbackAnswer
from .calling.service import BalancerMaker
from .http.connections import ConnectionLayer
from .interceptors.chain import Interceptor, RequestInterceptor
from .policy import ServicePolicy

__all__ = ("ClientOptions",)


class ClientOptions(TypedDict, total=False):
    """How a client behaves.

    Attributes:
        policies: behaviour by service name; `default_policy` for all others.
        filters: narrow the instances of each call, in order; `service_filters` after them.
        interceptors: around each call, in order; `service_interceptors` within them.
        fallbacks: what stands in for a service, by its name, when a call comes to nothing.
        make_balancer: makes the balancer of a service, in the place of the policy's.
        query: which instances of a service are asked for, e.g. those of a group.
        refresh_seconds: how old the known instances of a service may get.
        forget_seconds: how long those of a service stay that nobody calls.
        connection_layer: httpx's own connections or aiohttp's (extra `fast`); `auto` takes
            aiohttp's when it is installed.
        transport: carries every request in the place of own connections.
        keep_calls: how many of the last calls `recent_calls` knows.
        tracer_provider, meter_provider: where telemetry goes; the global ones by default.
        instance_metrics: also count attempts by instance, and show which are well.
        clock: monotonic seconds, for balancers, breakers and durations.
    """

    policies: Mapping[str, ServicePolicy] | None
    default_policy: ServicePolicy | None
    filters: Sequence[InstanceFilter]
    service_filters: Mapping[str, Sequence[InstanceFilter]]
    interceptors: Sequence[Interceptor | RequestInterceptor]
    service_interceptors: Mapping[str, Sequence[Interceptor | RequestInterceptor]]
    fallbacks: Mapping[str, FallbackAnswer]
    make_balancer: BalancerMaker
    query: InstanceQuery
    refresh_seconds: float
    forget_seconds: float
    connection_layer: ConnectionLayer
    transport: httpx.AsyncBaseTransport | None
    keep_calls: int
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    instance_metrics: bool
    clock: Callable[[], float]
