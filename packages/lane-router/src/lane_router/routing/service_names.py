"""The host names that can stand for a service of the mesh: `svc`, `svc.ns`, `svc.ns.svc[.domain]`."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from microservice_core import InvalidValueError

__all__ = ("ServiceNames", "read_pod_namespace")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ServiceNames:
    """Splits a host name into the service and the rest of the name.

    `svc.ns` counts only for known namespaces: `orders.com` has the same form but is a foreign host.

    Args:
        namespaces: those of the mesh; by default the one this pod runs in, if it runs in one.
        cluster_domain: what may follow `svc.ns.svc`.

    Raises:
        InvalidValueError: an invalid namespace or domain.
    """

    __slots__ = ("_namespaces", "_tail")

    def __init__(
        self, namespaces: Collection[str] | None = None, cluster_domain: str = "cluster.local"
    ) -> None:
        names = read_pod_namespace() if namespaces is None else frozenset(namespaces)
        for namespace in names:
            if not _LABEL.fullmatch(namespace):
                raise InvalidValueError("namespaces", namespace, "the name of a namespace")
        if not _DOMAIN.fullmatch(cluster_domain):
            raise InvalidValueError("cluster_domain", cluster_domain, "a domain in lower case")
        self._namespaces = names
        domain = re.escape(cluster_domain)
        self._tail = re.compile(rf"([-a-z0-9]{{1,63}})\.svc(\.{domain})?\.?")

    def split(self, host: str) -> tuple[str, str] | None:
        """(service, the rest with its dot); None for a name that is no service of the mesh."""
        service, dot, rest = host.lower().partition(".")
        if not _LABEL.fullmatch(service):
            return None
        if not dot:
            return service, ""
        if rest in self._namespaces or self._tail.fullmatch(rest):
            return service, f".{rest}"
        return None


def read_pod_namespace() -> frozenset[str]:
    """The namespace of the pod this process runs in; empty outside of Kubernetes."""
    try:
        namespace = _NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset({namespace} if _LABEL.fullmatch(namespace) else ())
