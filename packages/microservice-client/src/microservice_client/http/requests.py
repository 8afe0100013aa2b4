"""From a method, a service and a path to an httpx request, as httpx's own client builds one."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import IO, TypedDict

import httpx

from microservice_client.calling.call import CallOptions
from microservice_client.calling.fallbacks import FallbackAnswer
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor
from microservice_client.policy import RaiseOn, ServicePolicy
from microservice_core import InstanceFilter

from .urls import service_url

__all__ = ("RequestOptions", "build_request")


Scalar = str | int | float | bool | None


class RequestOptions(TypedDict, total=False):
    """What a request may carry: first as in httpx, then what only a call by name has.

    Attributes:
        timeout: seconds for the whole call with all its attempts.
        policy: in the place of the service's, for this call.
        filters: narrow the instances further, for this call.
        interceptors: around this call, within the client's and the service's.
        key: what a hash balancer hashes.
        idempotent: whether the request may be sent twice, where the method does not tell.
        raise_on: which error statuses are raised, in the place of the policy's.
        fallback: what stands in for an answer when the call comes to nothing.
    """

    params: Mapping[str, Scalar | Sequence[Scalar]]
    headers: Mapping[str, str]
    json: object
    content: str | bytes | AsyncIterable[bytes]
    data: Mapping[str, str]
    files: Mapping[str, IO[bytes] | bytes | tuple[str, IO[bytes] | bytes]]
    timeout: float
    policy: ServicePolicy
    filters: Sequence[InstanceFilter]
    interceptors: Sequence[Interceptor | RequestInterceptor]
    key: str | bytes
    idempotent: bool
    raise_on: RaiseOn
    fallback: FallbackAnswer


_CALL_OPTIONS = frozenset(
    {
        "timeout",
        "policy",
        "filters",
        "interceptors",
        "key",
        "idempotent",
        "raise_on",
        "fallback",
    }
)


RawHeaders = tuple[tuple[bytes, bytes], ...]


def default_headers() -> RawHeaders:
    """What every request carries: as httpx's client, with the encodings it can decode here."""
    encodings = httpx.AsyncClient(transport=httpx.MockTransport(_never)).headers["accept-encoding"]
    return (
        (b"accept", b"*/*"),
        (b"accept-encoding", encodings.encode("ascii")),
        (b"user-agent", b"python-microservice-client"),
    )


def _never(_: httpx.Request) -> httpx.Response:
    raise AssertionError("only the headers of this client are read")  # pragma: no cover


def build_request(
    method: str, service: str, path: str, options: RequestOptions, defaults: RawHeaders
) -> httpx.Request:
    """The request; its host is the service's name as far as a host can be one."""
    extensions: dict[str, object] = {"service_name": service}
    if not _CALL_OPTIONS.isdisjoint(options):
        extensions["call_options"] = call_options(options)
    headers = httpx.Headers(defaults)
    if given := options.get("headers"):
        headers.update(given)
    return httpx.Request(
        method,
        service_url(service, path),
        params=options.get("params"),
        headers=headers,
        json=options.get("json"),
        content=options.get("content"),
        data=options.get("data"),
        files=options.get("files"),
        extensions=extensions,
    )


def call_options(options: RequestOptions) -> CallOptions:
    """What of it is for the call."""
    return CallOptions(
        policy=options.get("policy"),
        total_timeout_seconds=options.get("timeout"),
        filters=options.get("filters", ()),
        interceptors=options.get("interceptors", ()),
        key=options.get("key"),
        idempotent=options.get("idempotent"),
        raise_on=options.get("raise_on"),
        fallback=options.get("fallback"),
    )
