"""URLs derived from URLs without parsing again; the one place that touches private parts of httpx.

httpx parses the whole URL for each change, which was a third of what a call cost, and has no public
way around that. The private way is taken only where the parts are as expected (checked once, at
import) and the new part needs no encoding: a plain path, a plain IPv4 address. Everywhere else the
public way is taken; tests compare the results of both.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import httpx

from microservice_core import ServiceInstance

__all__ = ("REUSES_PARSED_URLS", "has_usable_address", "replace_address", "service_url")

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# No character that has to be encoded, no empty and no dotted segment.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ANY_URL = httpx.URL("http://service/")
# A name as DNS and TLS take it, its labels of up to 63 characters, or an IPv6 address in brackets.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_HEADER = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_MAX_NAME_LENGTH = 253


def _has_parsed_parts(url: httpx.URL) -> bool:
    fields = getattr(getattr(url, "_uri_reference", None), "_fields", ())
    return {"scheme", "host", "port", "path"} <= set(fields)


REUSES_PARSED_URLS = _has_parsed_parts(httpx.URL("http://service/"))
"""Whether this release of httpx keeps the parsed parts where this module expects them."""


def service_url(service: str, path: str) -> httpx.URL:
    """Return `http://{service}{path}`; the host is `service` for a name that cannot be a host."""
    if not path.startswith("/"):
        path = f"/{path}"
    base = _base_url(service)
    if not REUSES_PARSED_URLS or _PLAIN_PATH.fullmatch(path) is None:
        return httpx.URL(f"http://{base.host}/{path.lstrip('/')}")
    url = httpx.URL.__new__(httpx.URL)
    url._uri_reference = base._uri_reference._replace(path=path)  # noqa: SLF001 - see above
    return url


def replace_address(url: httpx.URL, scheme: str, host: str, port: int) -> httpx.URL:
    """Return `url.copy_with(scheme=scheme, host=host, port=port)`."""
    if not REUSES_PARSED_URLS or not _is_plain_ipv4(host):
        return url.copy_with(scheme=scheme, host=host, port=port)
    explicit_port = None if port == _DEFAULT_PORTS[scheme] else port
    changed = httpx.URL.__new__(httpx.URL)
    changed._uri_reference = url._uri_reference._replace(  # noqa: SLF001 - see above
        scheme=scheme, host=host, port=explicit_port
    )
    return changed


def has_usable_address(instance: ServiceInstance) -> bool:
    """Whether a request can be addressed to the instance: its `ip`, and its metadata `host`."""
    name = instance.metadata.get("host")
    if name and (len(name) > _MAX_NAME_LENGTH or _HOST_HEADER.fullmatch(name) is None):
        return False
    if _is_plain_ipv4(instance.ip):
        return True
    try:
        host = replace_address(_ANY_URL, "http", instance.ip, instance.port).raw_host
    except (httpx.InvalidURL, ValueError, TypeError):
        return False
    return ":" in instance.ip or _HOST_HEADER.fullmatch(host.decode("ascii")) is not None


@lru_cache(maxsize=4096)
def _base_url(service: str) -> httpx.URL:
    return httpx.URL(f"http://{service if _HOST.fullmatch(service) else 'service'}/")


@lru_cache(maxsize=4096)
def _is_plain_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
