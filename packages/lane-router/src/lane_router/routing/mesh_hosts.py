"""The hosts that belong to the mesh by configuration: the lane is passed on to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MeshHosts",)

_HOST = re.compile(r"\.?[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?|[0-9a-f:]+")
_CLUSTER_NAME = re.compile(r"[-a-z0-9]{1,63}\.svc(\.cluster\.local)?\.?")


class MeshHosts:
    """Host names that belong to the mesh; `host in hosts` tests one.

    `orders` covers `orders`, `orders.NAMESPACE.svc` and `orders.NAMESPACE.svc.cluster.local`, but
    not `orders.NAMESPACE`, which could be a name of the public internet. `.internal` covers every
    name below it. Any other entry covers itself only.

    Raises:
        InvalidValueError: an entry is not a host name.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        entries = [_parse_host(host) for host in ([hosts] if isinstance(hosts, str) else hosts)]
        self._suffixes = tuple(host for host in entries if host.startswith("."))
        self._hosts = frozenset(host for host in entries if not host.startswith("."))

    def __contains__(self, host: object) -> bool:
        if not isinstance(host, str):
            return False
        host = host.lower()
        if host in self._hosts or host.endswith(self._suffixes):
            return True
        service, _, rest = host.partition(".")
        return service in self._hosts and _CLUSTER_NAME.fullmatch(rest) is not None


def _parse_host(host: str) -> str:
    if not _HOST.fullmatch(host.lower()):
        raise InvalidValueError("mesh_hosts", host, "a host name, or a suffix such as '.internal'")
    return host.lower()
