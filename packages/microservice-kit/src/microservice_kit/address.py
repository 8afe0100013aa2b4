"""The address under which others reach this process."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

__all__ = ("reachable_address",)

LOOPBACK = "127.0.0.1"
_TEST_NET = "192.0.2.1"  # RFC 5737: nobody's address, good for asking which interface leads out


def reachable_address(registry_address: str = "") -> str:
    """The address of the interface that leads to the registry; loopback if the registry is there.

    Args:
        registry_address: `host:port` or a URL; empty asks for the interface that leads out.
    """
    host = _host_of(registry_address) or _TEST_NET
    try:
        family, _, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # a datagram socket: this sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return LOOPBACK


def _host_of(address: str) -> str:
    if not address:
        return ""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
