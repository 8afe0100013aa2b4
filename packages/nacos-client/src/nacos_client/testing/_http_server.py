"""HTTP/1.1 on loopback from the standard library, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

from ._wire import FakeRequest, FakeResponse

__all__ = ("HttpServer",)

Handle = Callable[[FakeRequest], Awaitable[FakeResponse | None]]

_MAX_HEAD_BYTES = 64 * 1024


class HttpServer:
    """Serves `handle` until stopped; a None from it drops the connection."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread: threading.Thread | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._stop: asyncio.Event | None = None
        self.port = 0

    def start(self, port: int) -> None:
        """Listen; port 0 = any free one.

        Raises:
            OSError: the port is taken.
        """
        self._thread = threading.Thread(
            target=self._run, args=(port,), name="fake-nacos", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def close(self) -> None:
        """Close the port and every connection, and join the thread."""
        if self._thread is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def _run(self, port: int) -> None:
        try:
            self._loop.run_until_complete(self._serve(port))
        except OSError as build_failure:
            self._failure = build_failure
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self, port: int) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._accept, "127.0.0.1", port, limit=_MAX_HEAD_BYTES, backlog=512
        )
        (listening,) = server.sockets
        self.port = listening.getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        # A connection accepted in this moment is lost, its socket open, if its task is cancelled
        # or the server closed before that task's first step: accept no more, and let it get there.
        self._loop.remove_reader(listening)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task, writer in tuple(self._connections.items()):
                writer.transport.abort()
                task.cancel()
            await asyncio.wait(others)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)  # the aborted connections close their sockets

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task that is cancelled before its first step closes nothing: `_serve` has to know.
        task = self._loop.create_task(self._serve_connection(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(lambda ended: self._connections.pop(ended, None))

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await self._serve_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Handle one request; returns whether the connection is kept alive."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (each.partition(":") for each in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        response = await self._handle(FakeRequest.parse(method, path, query, headers, body))
        if response is None:
            writer.transport.abort()
            return False
        writer.write(_encode(response))
        await writer.drain()
        return headers.get("connection", "").lower() != "close"


def _encode(response: FakeResponse) -> bytes:
    lines = [f"HTTP/1.1 {response.status} ", f"content-length: {len(response.body)}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body
