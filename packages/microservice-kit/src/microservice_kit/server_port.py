"""The port of the server that runs this application, and whether it listens yet.

A server binds its sockets after the application's start-up, and tells it neither. Its own objects
are asked: whoever is loaded in this process, whichever way it was started.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator

__all__ = ("listening", "server_is_known", "server_ports")

POLL_SECONDS = 0.02


def server_ports() -> tuple[int, ...]:
    """The TCP ports that gunicorn, uvicorn or hypercorn serve in this process; none = not yet."""
    for module, name, read in _SERVERS:
        found = {port for one in _objects(module, name) for port in read(one)}
        if found:
            return tuple(sorted(found))
    return ()


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
