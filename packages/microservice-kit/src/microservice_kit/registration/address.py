"""The address under which other machines reach this process."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit

__all__ = ("find_reachable_address",)

_LOOPBACK = "127.0.0.1"
# RFC 5737: an address that no machine has; the route to it is the route out of this machine.
_TEST_NET_ADDRESS = "192.0.2.1"

# As the downward API is commonly wired: `fieldRef: {fieldPath: status.podIP}`.
_POD_VARIABLE = "POD_IP"


def find_reachable_address(registry_address: str = "") -> str:
    """Find the pod's own address, else that of the interface that leads to the registry.

    Loopback when the registry is on loopback, or when no interface leads anywhere.

    Args:
        registry_address: `host:port` or a URL; empty takes the interface that leads out.
    """
    return _read_pod_address() or _find_interface_to(
        _parse_host(registry_address) or _TEST_NET_ADDRESS
    )


def _read_pod_address() -> str:
    text = os.environ.get(_POD_VARIABLE, "").strip()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _find_interface_to(host: str) -> str:
    try:
        family, _, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # a datagram socket: this sends nothing, but selects a route
            return str(probe.getsockname()[0])
    except OSError:
        return _LOOPBACK


def _parse_host(address: str) -> str:
    if not address:
        return ""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
