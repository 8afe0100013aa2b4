"""Requests: from a caller's options to a service's request, and from there to an instance's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import IO, TypedDict

import httpx

from microservice_client.call_options import CallOptions, FallbackResponse
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor
from microservice_client.option_names import unknown_argument_error
from microservice_client.policy import RaiseOn, ServicePolicy
from microservice_core import InstanceFilter, ServiceInstance
from microservice_governance import deadline

from .auth import Auth, make_auth
from .bodies import ACCEPTED_CODINGS
from .request_rules import require_ascii_headers
from .urls import replace_address, service_url

__all__ = (
    "RawHeaders",
    "RequestOptions",
    "address_request",
    "build_request",
    "default_headers",
    "websocket_url",
)

Scalar = str | int | float | bool | None
RawHeaders = tuple[tuple[bytes, bytes], ...]


class RequestOptions(TypedDict, total=False):
    """The options of a request: first those of httpx, then those of a call by name.

    Attributes:
        params, headers, cookies, json, content, data, files, auth: as in httpx.
        timeout: time limit in seconds for the whole call with all its attempts.
        policy: replaces the service's policy for this call.
        filters: narrow the instances further for this call.
        interceptors: run inside the interceptors of the client and the service.
        key: what a hash balancer hashes.
        idempotent: whether the request may be sent more than once; by default its method decides.
        raise_on: which error statuses are raised; by default the policy's.
        fallback: replaces the response of a failed call.
    """

    params: Mapping[str, Scalar | Sequence[Scalar]]
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    json: object
    content: str | bytes | AsyncIterable[bytes]
    data: Mapping[str, str]
    files: Mapping[str, IO[bytes] | bytes | tuple[str, IO[bytes] | bytes]]
    auth: Auth
    timeout: float
    policy: ServicePolicy
    filters: Sequence[InstanceFilter]
    interceptors: Sequence[Interceptor | RequestInterceptor]
    key: str | bytes
    idempotent: bool
    raise_on: RaiseOn
    fallback: FallbackResponse


_REQUEST_OPTIONS = frozenset(RequestOptions.__annotations__)
_HTTPX_CLIENT = "call it through httpx.AsyncClient(transport=AsyncServiceTransport(client))"
_ADVICE = {
    "follow_redirects": f"{_HTTPX_CLIENT}, which follows redirects",
    "extensions": f"{_HTTPX_CLIENT}, which takes extensions",
}
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

_DEADLINE = deadline.HEADER.encode("ascii")
# Each spelling of Host that a header may have here; comparing these is cheaper than lowering all.
_REPLACED_HEADERS = frozenset({b"Host", b"host", b"HOST", _DEADLINE})


def default_headers() -> RawHeaders:
    """Return the headers of every request that does not set them itself."""
    return (
        (b"accept", b"*/*"),
        (b"accept-encoding", ACCEPTED_CODINGS.encode("ascii")),
        (b"user-agent", b"python-microservice-client"),
    )


def build_request(
    method: str, service: str, path: str, options: RequestOptions, defaults: RawHeaders
) -> httpx.Request:
    """Build the request to a service; its URL's host is the service's name, if that can be a host.

    Args:
        method: of HTTP.
        service: the service's name.
        path: with or without a leading `/`.
        options: of httpx and of the call.
        defaults: headers that `options` may override.

    Raises:
        TypeError: an option is unknown, or not of its type.
        InvalidValueError: a header is not ASCII text.
    """
    if not options.keys() <= _REQUEST_OPTIONS:
        function = f"{method} of {service}"
        raise unknown_argument_error(function, options, _REQUEST_OPTIONS, _ADVICE)
    extensions: dict[str, object] = {"service_name": service}
    if not _CALL_OPTIONS.isdisjoint(options):
        extensions["call_options"] = build_call_options(options)
    if (auth := options.get("auth")) is not None:
        extensions["auth"] = make_auth(auth)
    headers = httpx.Headers(defaults)
    if caller_headers := options.get("headers"):
        try:
            headers.update(caller_headers)
        except UnicodeEncodeError:
            require_ascii_headers(caller_headers)
            raise
    return httpx.Request(
        method,
        service_url(service, path),
        params=options.get("params"),
        headers=headers,
        cookies=dict(cookies) if (cookies := options.get("cookies")) else None,
        json=options.get("json"),
        content=options.get("content"),
        data=options.get("data"),
        files=options.get("files"),
        extensions=extensions,
    )


def build_call_options(options: RequestOptions) -> CallOptions:
    """Return the options that are for the call and not for httpx.

    Raises:
        TypeError: `timeout` is no number.
    """
    timeout = options.get("timeout")
    if timeout is not None and not isinstance(timeout, int | float):
        raise TypeError(
            f"timeout must be the seconds of the whole call, not {type(timeout).__name__}; the "
            "times of a connection and of an attempt are those of policy=ServicePolicy(...)"
        )
    return CallOptions(
        policy=options.get("policy"),
        total_timeout_seconds=timeout,
        filters=options.get("filters", ()),
        interceptors=options.get("interceptors", ()),
        key=options.get("key"),
        idempotent=options.get("idempotent"),
        raise_on=options.get("raise_on"),
        fallback=options.get("fallback"),
    )


def address_request(
    request: httpx.Request,
    instance: ServiceInstance,
    policy: ServicePolicy,
    seconds: float,
    *,
    raw_headers: list[tuple[bytes, bytes]] | None = None,
) -> httpx.Request:
    """Make the request of an attempt from a service's request, which is not changed.

    An instance's metadata `host` is its name in the Host header, and in TLS unless the policy has a
    `server_name`.

    Args:
        request: the request to the service.
        instance: where the attempt goes.
        policy: the policy of the call.
        seconds: how long the response is awaited, for the deadline header.
        raw_headers: the headers of `request`, if they are at hand.
    """
    metadata = instance.metadata
    secure = "secure" in metadata and instance.secure  # mostly without asking the property
    url = replace_address(request.url, "https" if secure else "http", instance.ip, instance.port)
    name = metadata.get("host")
    host = name.encode("ascii") if name else url.netloc
    if raw_headers is None:
        raw_headers = request.headers.raw
    headers = [(b"Host", host), *[pair for pair in raw_headers if pair[0] not in _REPLACED_HEADERS]]
    if policy.propagate_deadline:
        headers.append((_DEADLINE, b"%dm" % max(0, int(seconds * 1000))))
    connect, attempt = policy.connect_timeout_seconds, policy.attempt_timeout_seconds
    timeout: dict[str, float | None] | None = request.extensions.get("timeout")
    if timeout:
        timeout = _combine_timeouts(timeout, connect, attempt)
    else:
        timeout = {"connect": connect, "pool": attempt, "read": attempt, "write": attempt}
    extensions = {**request.extensions, "timeout": timeout}
    if secure and (server_name := policy.tls.server_name or name):
        extensions["sni_hostname"] = server_name
    return httpx.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=extensions
    )


def _combine_timeouts(
    timeout: dict[str, float | None], connect: float, attempt: float
) -> dict[str, float | None]:
    """The time-outs of a request that came from an httpx client, with the policy's for None."""
    return {
        "connect": min(timeout.get("connect") or connect, connect),
        "pool": timeout.get("pool") or attempt,
        "read": timeout.get("read") or attempt,
        "write": timeout.get("write") or attempt,
    }


def websocket_url(instance: ServiceInstance, path: str) -> str:
    """Return `ws://ip:port/path`, or `wss://` for a secure instance."""
    scheme = "wss" if instance.secure else "ws"
    return f"{scheme}://{instance.address}/{path.lstrip('/')}"
