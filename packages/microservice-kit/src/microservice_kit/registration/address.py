"""The address under which others reach this process."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit

__all__ = ("reachable_address",)

LOOPBACK = "127.0.0.1"
_TEST_NET = "192.0.2.1"  # RFC 5737: nobody's address, good for asking which interface leads out

# As the downward API is commonly wired: `fieldRef: {fieldPath: status.podIP}`.
POD_ADDRESS = "POD_IP"


def reachable_address(registry_address: str = "") -> str:
    """The pod's own address, else that of the interface that leads to the registry.

    Loopback when the registry is there, or when no interface leads anywhere.

    Args:
        registry_address: `host:port` or a URL; empty asks for the interface that leads out.
    """
    return _pod_address() or _interface_to(_host_of(registry_address) or _TEST_NET)


def _pod_address() -> str:
    given = os.environ.get(POD_ADDRESS, "").strip()
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        return ""


def _interface_to(host: str) -> str:
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
