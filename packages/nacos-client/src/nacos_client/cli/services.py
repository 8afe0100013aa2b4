"""`nacos service …`, `instance …`, `namespace …` and `status`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

from nacos_client import NacosClient
from nacos_client.errors import InvalidArgumentError
from nacos_client.models import InstanceList

from .screen import Screen

__all__ = ("deregister", "namespaces", "register", "services", "show", "status", "watch")

_SIGNAL_CHECK_SECONDS = 0.5
_MAX_PORT_DIGITS = 5

_INSTANCE_COLUMNS = ("address", "cluster", "weight", "healthy", "enabled", "ephemeral", "metadata")


def services(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List services."""
    summaries = nacos.admin.services(arguments.pattern, group=arguments.group or "")
    screen.print_table(
        ("name", "group", "cluster_count", "ip_count", "healthy_instance_count"), summaries
    )
    return 0


def show(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List the instances of a service, the disabled ones included; 1 = there is none."""
    instances = nacos.admin.instances(arguments.service)
    if not instances:
        sys.stderr.write(
            f"nacos: {arguments.service} has no instance in this group and namespace\n"
        )
        return 1
    screen.print_table(_INSTANCE_COLUMNS, instances)
    return 0


def watch(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Print added, changed and removed instances, until interrupted."""
    is_complete = threading.Event()
    lists = 0

    def listener(instances: InstanceList) -> None:
        nonlocal lists
        if screen.as_json:
            screen.print_value(instances)
        else:
            for sign, group in (("+", "added"), ("-", "removed"), ("~", "changed")):
                for each in getattr(instances, group):
                    screen.print_line(
                        f"{sign} {each.address} weight={each.weight:g} {each.cluster}"
                    )
            screen.print_line(
                f"{len(instances)} instances" + (" (stale)" if instances.stale else "")
            )
        if lists == arguments.count:
            is_complete.set()
        lists += 1

    nacos.naming.subscribe(arguments.service, listener)
    _wait_for(is_complete)
    return 0


def register(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Register an instance; an ephemeral one is kept alive until interrupted."""
    ip, port = _parse_address(arguments.address)
    nacos.naming.register(
        arguments.service,
        ip,
        port,
        metadata=dict(_parse_pair(each) for each in arguments.metadata),
        cluster=arguments.cluster,
        weight=arguments.weight,
        ephemeral=not arguments.persistent,
    )
    screen.print_line(f"registered {arguments.address} as {arguments.service}")
    if not arguments.persistent:
        screen.print_line("keeping it alive until interrupted (Ctrl-C)")
        is_interrupted = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: is_interrupted.set())
        _wait_for(is_interrupted, arguments.seconds)
    return 0


def deregister(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Deregister an instance."""
    ip, port = _parse_address(arguments.address)
    nacos.naming.deregister(
        arguments.service, ip, port, cluster=arguments.cluster, ephemeral=not arguments.persistent
    )
    screen.print_line(f"deregistered {arguments.address} from {arguments.service}")
    return 0


def namespaces(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List namespaces."""
    del arguments
    screen.print_table(
        ("namespace_id", "name", "description", "config_count"), nacos.admin.namespaces()
    )
    return 0


def status(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Show whether the server is ready, its version and its nodes; 1 = not ready."""
    del arguments
    if not nacos.admin.ready():
        screen.print_value({"server": nacos.server_in_use, "ready": False})
        return 1
    state = nacos.admin.state()
    details = {key: state.get(key, "") for key in ("version", "startup_mode", "auth_enabled")}
    screen.print_value({"server": nacos.server_in_use, "ready": True, **details})
    screen.print_table(("address", "state"), nacos.admin.nodes())
    return 0


def _parse_address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    # isdigit alone accepts characters such as a superscript two, which int refuses.
    if not separator or not (port.isascii() and port.isdigit() and len(port) <= _MAX_PORT_DIGITS):
        raise InvalidArgumentError("address", text, "ip:port")
    return host.strip("[]"), int(port)


def _parse_pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidArgumentError("metadata", text, "key=value")
    return key, value


def _wait_for(event: threading.Event, seconds: float | None = None) -> None:
    """Wait for the event, or so many seconds.

    An interrupt that comes just before a wait without an end would be handled only when that wait
    is over: so it waits in short steps.
    """
    ends_at = float("inf") if seconds is None else time.monotonic() + seconds
    while (remaining := ends_at - time.monotonic()) > 0:
        if event.wait(min(remaining, _SIGNAL_CHECK_SECONDS)):
            return
