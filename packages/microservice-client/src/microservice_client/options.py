"""The keyword arguments that the sync and the async client share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import httpx
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from microservice_core import InstanceFilter, InstanceQuery

from .call_options import FallbackResponse
from .calling.service import BalancerFactory
from .http.connections import ConnectionLayer
from .interceptors.chain import Interceptor, RequestInterceptor
from .option_names import unknown_argument_error
from .policy import ServicePolicy

__all__ = ("ClientOptions", "require_known_options")


class ClientOptions(TypedDict, total=False):
    """The options of a client; all are optional.

    Attributes:
        policies: policies by service name.
        default_policy: the policy of all other services.
        filters: narrow the instances of each call, in order.
        service_filters: further filters by service name, after `filters`.
        interceptors: run around each call, in order.
        service_interceptors: further interceptors by service name, inside `interceptors`.
        fallbacks: replace the response of a failed call, by service name.
        make_balancer: makes the balancer of a service, in place of the policy's `balancer`.
        query: which instances of a service are used, e.g. those of a group.
        refresh_seconds: age at which the instances of a service are queried again.
        hold_empty_seconds: how long the last instances of a service are kept when the registry
            returns none; a registry that has just restarted returns none as well.
        forget_seconds: time after which the instances of a service without calls are dropped.
        connection_layer: httpx's own connections or aiohttp's (extra `fast`); `auto` uses aiohttp's
            when it is installed.
        transport: carries every request in place of the client's own connections.
        keep_calls: number of calls that `recent_calls` returns.
        tracer_provider, meter_provider: where telemetry goes; the global providers by default.
        instance_metrics: also record attempts by instance, and the health of instances.
        clock: monotonic seconds, for balancers, breakers and durations.
    """

    policies: Mapping[str, ServicePolicy] | None
    default_policy: ServicePolicy | None
    filters: Sequence[InstanceFilter]
    service_filters: Mapping[str, Sequence[InstanceFilter]]
    interceptors: Sequence[Interceptor | RequestInterceptor]
    service_interceptors: Mapping[str, Sequence[Interceptor | RequestInterceptor]]
    fallbacks: Mapping[str, FallbackResponse]
    make_balancer: BalancerFactory
    query: InstanceQuery
    refresh_seconds: float
    forget_seconds: float
    hold_empty_seconds: float
    connection_layer: ConnectionLayer
    transport: httpx.AsyncBaseTransport | None
    keep_calls: int
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    instance_metrics: bool
    clock: Callable[[], float]


_NAMES = frozenset(ClientOptions.__annotations__)


def require_known_options(client: str, options: ClientOptions) -> None:
    """Refuse options that no client has.

    Raises:
        TypeError: an option is unknown.
    """
    if not options.keys() <= _NAMES:
        raise unknown_argument_error(client, options, _NAMES, {})
