"""URLs out of URLs, without parsing what was parsed before.

httpx parses a URL anew for each change, which was a third of what a call cost. It has no public way
around that. Where the way taken here ends (another httpx, anything but a plain path or a plain IPv4
address), the public one is taken; tests hold both to the same results.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import httpx

__all__ = ("service_url", "with_address")

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# No character that has to be encoded, no empty and no dotted segment.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def service_url(service: str, path: str) -> httpx.URL:
    """`http://{service}{path}`, the service as far as its name can be a host."""
    if not path.startswith("/"):
        path = f"/{path}"
    base = _base(service)
    parsed = getattr(base, "_uri_reference", None)
    if parsed is None or _PLAIN_PATH.fullmatch(path) is None:
        return httpx.URL(f"http://{base.host}/{path.lstrip('/')}")
    return _url(parsed._replace(path=path))


def with_address(url: httpx.URL, scheme: str, host: str, port: int) -> httpx.URL:
    """`url.copy_with(scheme=scheme, host=host, port=port)`."""
    parsed = getattr(url, "_uri_reference", None)
    if parsed is None or not _is_plain_ipv4(host):
        return url.copy_with(scheme=scheme, host=host, port=port)
    shown_port = None if port == _DEFAULT_PORTS[scheme] else port
    return _url(parsed._replace(scheme=scheme, host=host, port=shown_port))


def _url(parsed: object) -> httpx.URL:
    made = httpx.URL.__new__(httpx.URL)
    made._uri_reference = parsed  # type: ignore[assignment] # noqa: SLF001 - see above
    return made


@lru_cache(maxsize=4096)
def _base(service: str) -> httpx.URL:
    return httpx.URL(f"http://{service if _HOST.fullmatch(service) else 'service'}/")


@lru_cache(maxsize=4096)
def _is_plain_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
