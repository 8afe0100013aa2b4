"""The Host field: its syntax, and whether a browser could send it on behalf of a foreign page."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

__all__ = ("can_be_rebound", "is_valid_host")

# RFC 9112, section 3.2, and RFC 3986, section 3.2.2: an empty host is legal.
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.%~_-]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


def is_valid_host(value: bytes) -> bool:
    """Whether the value of a Host field is one host, perhaps with a port."""
    return _HOST.fullmatch(value) is not None


@lru_cache(maxsize=128)
def can_be_rebound(value: bytes) -> bool:
    """Whether the host is a name that a stranger's DNS may have pointed at this machine.

    A page at `http://evil.example` whose name suddenly resolves to 127.0.0.1 reaches a server on
    loopback with `Host: evil.example` ("DNS rebinding"). Addresses need no DNS, names without a dot
    are not public, and `localhost` is loopback by RFC 6761.
    """
    name = value.decode("latin-1").lower()
    if name.startswith("["):
        return False
    name = name.partition(":")[0].rstrip(".")
    if "." not in name or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False
