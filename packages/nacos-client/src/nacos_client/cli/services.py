"""`nacos service …`, `instance …`, `namespace …` and `status`."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

from nacos_client.errors import InvalidArgumentError

if TYPE_CHECKING:
    import argparse

    from nacos_client import NacosClient
    from nacos_client.models import InstanceList

    from .screen import Screen

__all__ = ("deregister", "namespaces", "register", "services", "show", "status", "watch")

LOOK_SECONDS = 0.5

INSTANCE_COLUMNS = ("address", "cluster", "weight", "healthy", "enabled", "ephemeral", "metadata")


def services(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List services."""
    found = nacos.admin.services(arguments.pattern, group=arguments.group or "")
    screen.table(("name", "group", "cluster_count", "ip_count", "healthy_instance_count"), found)
    return 0


def show(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List the instances of a service, the disabled ones included."""
    screen.table(INSTANCE_COLUMNS, nacos.admin.instances(arguments.service))
    return 0


def watch(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Print who comes, changes and goes, until interrupted."""
    enough = threading.Event()
    heard = 0

    def listener(instances: InstanceList) -> None:
        nonlocal heard
        if screen.as_json:
            screen.value(instances)
        else:
            for sign, group in (("+", "added"), ("-", "removed"), ("~", "changed")):
                for each in getattr(instances, group):
                    screen.line(f"{sign} {each.address} weight={each.weight:g} {each.cluster}")
            screen.line(f"{len(instances)} instances" + (" (stale)" if instances.stale else ""))
        if heard == arguments.count:
            enough.set()
        heard += 1

    nacos.naming.subscribe(arguments.service, listener)
    _wait_for(enough)
    return 0


def register(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Register an instance; an ephemeral one is kept alive until interrupted."""
    ip, port = _address(arguments.address)
    nacos.naming.register(
        arguments.service,
        ip,
        port,
        metadata=dict(_pair(each) for each in arguments.metadata),
        cluster=arguments.cluster,
        weight=arguments.weight,
        ephemeral=not arguments.persistent,
    )
    screen.line(f"registered {arguments.address} as {arguments.service}")
    if not arguments.persistent:
        screen.line("beating until interrupted (Ctrl-C)")
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        _wait_for(stop, arguments.seconds)
    return 0


def deregister(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Take an instance out."""
    ip, port = _address(arguments.address)
    nacos.naming.deregister(
        arguments.service, ip, port, cluster=arguments.cluster, ephemeral=not arguments.persistent
    )
    screen.line(f"deregistered {arguments.address} from {arguments.service}")
    return 0


def namespaces(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List namespaces."""
    del arguments
    screen.table(("namespace_id", "name", "description", "config_count"), nacos.admin.namespaces())
    return 0


def status(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Whether the server serves, its version and its nodes; 1 = not ready."""
    del arguments
    if not nacos.admin.ready():
        screen.value({"server": nacos.server_in_use, "ready": False})
        return 1
    state = nacos.admin.state()
    told = {key: state.get(key, "") for key in ("version", "startup_mode", "auth_enabled")}
    screen.value({"server": nacos.server_in_use, "ready": True, **told})
    screen.table(("address", "state"), nacos.admin.nodes())
    return 0


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit():
        raise InvalidArgumentError("address", text, "ip:port")
    return host.strip("[]"), int(port)


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidArgumentError("metadata", text, "key=value")
    return key, value


def _wait_for(event: threading.Event, seconds: float | None = None) -> None:
    """Wait for the event, or so long; an interrupt is always noticed.

    One that comes just before a wait without an end would be, but only when the wait is over.
    """
    ends_at = float("inf") if seconds is None else time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and not event.wait(min(left, LOOK_SECONDS)):
        pass
