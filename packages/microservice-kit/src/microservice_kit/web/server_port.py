"""The port of the server that runs this application, and whether it listens yet.

A server binds its sockets after the application's start-up, and hands the application neither the
port nor a signal that it listens. So the server's own objects are read: those of gunicorn, uvicorn
or hypercorn in this process, however it was started.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator

__all__ = ("find_server_port", "find_server_ports", "has_known_server", "wait_until_listening")

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
# Each poll walks all objects of the process, and blocks the event loop meanwhile.
_MAX_POLL_SECONDS = 2.0
_MAX_MIDDLEWARE = 50


def find_server_ports(app: object = None) -> tuple[int, ...]:
    """Find the TCP ports that gunicorn, uvicorn or hypercorn serve in this process.

    Of several uvicorn servers only those that run `app` count, where that is known. Empty
    while there is none yet.
    """
    for module, class_name, read_ports in _SERVERS:
        servers = list(_iter_objects(module, class_name))
        own_servers = [server for server in servers if _runs_app(server, app)]
        ports = {port for server in own_servers or servers for port in read_ports(server)}
        if ports:
            return tuple(sorted(ports))
    return ()


async def find_server_port(
    app: object = None, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> int:
    """Wait until there is exactly one port that `app` is served on; the caller sets a time limit.

    Several ports are logged, once; then it polls more and more rarely.
    """
    pause = _POLL_SECONDS
    has_warned = False
    while len(ports := find_server_ports(app)) != 1:
        if ports and not has_warned:
            has_warned = True
            logger.warning(
                "this process serves on the ports %s: set `port`, the one to register",
                ", ".join(map(str, ports)),
            )
        await sleep(pause)
        pause = min(2 * pause, _MAX_POLL_SECONDS)
    return ports[0]


def has_known_server() -> bool:
    """Whether a server whose port can be found runs in this process."""
    return any(
        True for module, class_name, _ in _SERVERS for _ in _iter_objects(module, class_name)
    )


async def wait_until_listening(port: int, *, host: str = "127.0.0.1") -> None:
    """Return as soon as connections are accepted there; the caller sets a time limit."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(_POLL_SECONDS)
        else:
            writer.close()
            return


def _iter_objects(module: str, class_name: str) -> Iterator[object]:
    # Only a server that is already imported can run here.
    kind = getattr(sys.modules.get(module), class_name, None)
    if isinstance(kind, type):
        for candidate in gc.get_objects():
            # Subclasses too: a gunicorn worker is always one. `type()`, because `isinstance` would
            # run the `__class__` of any object, such as a lazy proxy's.
            if issubclass(type(candidate), kind) and not getattr(candidate, "should_exit", False):
                yield candidate


def _runs_app(server: object, app: object) -> bool:
    """Whether uvicorn's server has loaded `app`, directly or inside middleware."""
    inner = getattr(getattr(server, "config", None), "loaded_app", None)
    for _ in range(_MAX_MIDDLEWARE):
        if inner is None or inner is app:
            break
        inner = getattr(inner, "app", None)
    return inner is not None and inner is app


def _read_uvicorn_ports(server: object) -> Iterator[int]:
    for asyncio_server in getattr(server, "servers", ()):
        for socket in asyncio_server.sockets:
            yield from _iter_port(socket.getsockname())
    config = getattr(server, "config", None)
    if config is not None and config.fd is None and config.uds is None and config.port:
        yield int(config.port)


def _read_hypercorn_ports(config: object) -> Iterator[int]:
    for bind in getattr(config, "bind", ()):
        port = str(bind).rpartition(":")[2]
        if port.isdigit() and int(port):
            yield int(port)


def _read_gunicorn_ports(worker: object) -> Iterator[int]:
    for listener in getattr(worker, "sockets", ()):
        yield from _iter_port(listener.getsockname())


def _iter_port(address: object) -> Iterator[int]:
    """Yield the port of an IP address; a Unix socket has none."""
    if isinstance(address, tuple) and len(address) >= 2 and address[1]:
        yield int(address[1])


# gunicorn first: its worker may run a uvicorn server whose own port means nothing.
_SERVERS: tuple[tuple[str, str, Callable[[object], Iterator[int]]], ...] = (
    ("gunicorn.workers.base", "Worker", _read_gunicorn_ports),
    ("uvicorn.server", "Server", _read_uvicorn_ports),
    ("hypercorn.config", "Config", _read_hypercorn_ports),
)
