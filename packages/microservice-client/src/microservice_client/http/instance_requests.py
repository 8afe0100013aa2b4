"""From a service's request to an instance's: the URL's address, the Host header, TLS, timeouts."""

from __future__ import annotations

import httpx

from microservice_client.policy import ServicePolicy
from microservice_core import ServiceInstance
from microservice_governance import deadline

from .urls import with_address

__all__ = ("addressed", "websocket_url")

_DEADLINE = deadline.HEADER.encode("ascii")
_REPLACED = frozenset({b"Host", b"host", b"HOST", _DEADLINE})


def addressed(
    request: httpx.Request, instance: ServiceInstance, policy: ServicePolicy, seconds: float
) -> httpx.Request:
    """The same request to that instance; the URL given by the caller stays as it is.

    It says how many `seconds` the answer is waited for, unless the policy keeps that to itself.

    An instance's metadata `host`, where there is one, is the name it is called by: in the Host
    header, and in TLS unless the policy names another.
    """
    secure = instance.secure
    url = with_address(request.url, "https" if secure else "http", instance.ip, instance.port)
    name = instance.metadata.get("host")
    host = name.encode("ascii") if name else url.netloc
    headers = [(b"Host", host), *(pair for pair in request.headers.raw if pair[0] not in _REPLACED)]
    if policy.propagate_deadline:
        headers.append((_DEADLINE, b"%dm" % max(0, int(seconds * 1000))))
    extensions = {**request.extensions, "timeout": _timeouts(request, policy)}
    if secure and (server_name := policy.tls.server_name or name):
        extensions["sni_hostname"] = server_name
    return httpx.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=extensions
    )


def websocket_url(instance: ServiceInstance, path: str) -> str:
    """`ws://ip:port/path`, or `wss://` for a secure instance."""
    scheme = "wss" if instance.secure else "ws"
    return f"{scheme}://{instance.address}/{path.lstrip('/')}"


def _timeouts(request: httpx.Request, policy: ServicePolicy) -> dict[str, float | None]:
    connect, attempt = policy.connect_timeout_seconds, policy.attempt_timeout_seconds
    given: dict[str, float | None] | None = request.extensions.get("timeout")
    if not given:
        return {"connect": connect, "pool": connect, "read": attempt, "write": attempt}
    return {
        "connect": min(given.get("connect") or connect, connect),
        "pool": given.get("pool") or connect,
        "read": given.get("read") or attempt,
        "write": given.get("write") or attempt,
    }
