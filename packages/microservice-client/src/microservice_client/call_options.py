"""The options of one call by name, beside its HTTP request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from microservice_core import InstanceFilter

from .errors import ServiceCallError
from .interceptors.chain import Interceptor, RequestInterceptor
from .policy import RaiseOn, ServicePolicy

__all__ = ("NO_OPTIONS", "CallOptions", "FallbackResponse")

FallbackResponse = (
    httpx.Response | Callable[[ServiceCallError], httpx.Response | Awaitable[httpx.Response]]
)
"""A response, or a plain or async function that returns one for the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The options of one call.

    The httpx transports read them from the request's extensions:
    `http.get(url, extensions={"call_options": CallOptions(key="user-7")})`.

    Attributes:
        policy: replaces the service's policy for this call. Breakers, balancer, limits and retry
            budget remain the service's own.
        total_timeout_seconds: time limit of the call with all its attempts; None = the policy's.
        filters: narrow the instances, after the filters of the client and the service.
        interceptors: run inside the interceptors of the client and the service.
        key: what a hash balancer hashes, e.g. a user's id.
        idempotent: whether the request may be sent more than once; None = decided by its method or
            an `Idempotency-Key` header.
        raise_on: which error statuses are raised; None = the policy's.
        fallback: replaces the response of a failed call; None = the client's fallback.
    """

    policy: ServicePolicy | None = None
    total_timeout_seconds: float | None = None
    filters: Sequence[InstanceFilter] = ()
    interceptors: Sequence[Interceptor | RequestInterceptor] = ()
    key: str | bytes | None = None
    idempotent: bool | None = None
    raise_on: RaiseOn | None = None
    fallback: FallbackResponse | None = None


NO_OPTIONS = CallOptions()
