"""The port of the server that runs this application, and whether it listens yet.

A server binds its sockets after the application's start-up, and tells it neither. Its own objects
are asked: whoever is loaded in this process, whichever way it was started.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Iterator

__all__ = ("listening", "only_server_port", "server_is_known", "server_ports")

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
# Every look goes through all objects of the process, and the event loop waits for it.
LONGEST_POLL_SECONDS = 2.0
DEEPEST_MIDDLEWARE = 50


def server_ports(app: object = None) -> tuple[int, ...]:
    """The TCP ports that gunicorn, uvicorn or hypercorn serve in this process; none = not yet.

    Of several uvicorn servers, those that run `app` count, wherever that can be told.
    """
    for module, name, read in _SERVERS:
        servers = list(_objects(module, name))
        own = [one for one in servers if _runs(one, app)]
        found = {port for one in own or servers for port in read(one)}
        if found:
            return tuple(sorted(found))
    return ()


async def only_server_port(app: object = None) -> int:
    """The one port `app` is served on, once there is one; to be bounded by the caller.

    Where there are several it says so, and looks again ever more rarely.
    """
    pause = POLL_SECONDS
    said = False
    while len(ports := server_ports(app)) != 1:
        if ports and not said:
            said = True
            logger.warning(
                "this process serves on the ports %s: give `port`, the one to register",
                ", ".join(map(str, ports)),
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_POLL_SECONDS)
    return ports[0]


def server_is_known() -> bool:
    """Whether one of the servers that can be asked runs in this process."""
    return any(True for module, name, _ in _SERVERS for _ in _objects(module, name))


async def listening(port: int, *, host: str = "127.0.0.1") -> None:
    """Return as soon as somebody accepts connections there; to be bounded by the caller."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            writer.close()
            return


def _objects(module: str, name: str) -> Iterator[object]:
    kind = getattr(sys.modules.get(module), name, None)
    if isinstance(kind, type):
        # Subclasses too: a gunicorn worker is always one.
        for one in gc.get_objects():
            if issubclass(type(one), kind) and not getattr(one, "should_exit", False):
                yield one


def _runs(server: object, app: object) -> bool:
    """Whether uvicorn's server has loaded `app`, as it is or within middleware."""
    inner = getattr(getattr(server, "config", None), "loaded_app", None)
    for _ in range(DEEPEST_MIDDLEWARE):
        if inner is None or inner is app:
            break
        inner = getattr(inner, "app", None)
    return inner is not None and inner is app


def _of_uvicorn(server: object) -> Iterator[int]:
    for bound in getattr(server, "servers", ()):
        for socket in bound.sockets:
            yield from _port_of(socket.getsockname())
    config = getattr(server, "config", None)
    if config is not None and config.fd is None and config.uds is None and config.port:
        yield int(config.port)


def _of_hypercorn(config: object) -> Iterator[int]:
    for bind in getattr(config, "bind", ()):
        port = str(bind).rpartition(":")[2]
        if port.isdigit() and int(port):
            yield int(port)


def _of_gunicorn(worker: object) -> Iterator[int]:
    for listener in getattr(worker, "sockets", ()):
        yield from _port_of(listener.getsockname())


def _port_of(name: object) -> Iterator[int]:
    if isinstance(name, tuple) and len(name) >= 2 and name[1]:
        yield int(name[1])


# A gunicorn worker may run a uvicorn server whose own port means nothing: it is asked first.
_SERVERS: tuple[tuple[str, str, Callable[[object], Iterator[int]]], ...] = (
    ("gunicorn.workers.base", "Worker", _of_gunicorn),
    ("uvicorn.server", "Server", _of_uvicorn),
    ("hypercorn.config", "Config", _of_hypercorn),
)
