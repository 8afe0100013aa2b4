"""The one module that knows httpx: runs operations, sync or async, on pooled connections.

httpx's transports are used without its clients: no redirects, cookies or environment in the way,
and a third of the time saved on each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import ssl
import sys
import time
import urllib.request
import weakref
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx

from ._steps import Answer, NoAnswer, Operation, Send, Sleep, Step
from .errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ("AsyncRunner", "SyncRunner", "TransportOptions")

T = TypeVar("T")

# Nacos' Tomcat closes idle connections after 60 s (measured on 3.1.0).
KEEPALIVE_SECONDS = 50.0
ELSEWHERE_SECONDS = 0.5
LONGEST_ANSWER = 64 * 1024 * 1024
CLOSED_MEANWHILE = "the Nacos client was closed while this call was on"
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

AnyTransport = httpx.BaseTransport | httpx.AsyncBaseTransport


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How connections are made.

    Attributes:
        transport: a transport of the user's, or a callable that makes one.
        trust_env: proxies come from the environment, never for loopback addresses.
    """

    connect_seconds: float = 1.0
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    trust_env: bool = True
    max_connections: int = 16
    transport: AnyTransport | Callable[[], AnyTransport] | None = None

    def tls(self) -> ssl.SSLContext:
        """The context for https servers."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file is None and not context.get_ca_certs():
            context = httpx.create_ssl_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def for_server(self, server: str) -> dict[str, Any]:
        """Arguments of httpx's own transports for this server."""
        secure = server.startswith("https://")
        return {
            # Loading the CA bundle costs 20 ms and 5 MB: only where TLS is spoken.
            "verify": self.tls() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            "trust_env": False,
            "proxy": _proxy(server) if self.trust_env else None,
            "limits": httpx.Limits(
                max_connections=self.max_connections,
                max_keepalive_connections=self.max_connections,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        }


def _note_missing_sniffio() -> None:
    """Let httpcore's `import sniffio`, made several times per request, fail fast.

    httpcore 1.0 tries it again and again where it is not installed, and each try searches the
    whole path: a third of the time of an async call. A None in sys.modules means just "not there".
    """
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]


class SyncRunner:
    """Runs operations in the calling thread. Made anew in a forked child."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._pools: dict[str, httpx.BaseTransport] = {}
        self._process = os.getpid()

    def run(self, operation: Operation[T]) -> T:
        """The operation's outcome."""
        step: Step
        try:
            step = next(operation)
            while True:
                try:
                    reply = self._perform(step)
                except (NoAnswer, TimeoutError) as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(reply)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            operation.close()

    def close(self) -> None:
        """Close every connection of this process."""
        pools, self._pools = self._pools, {}
        if self._process == os.getpid():
            for pool in pools.values():
                pool.close()

    def _perform(self, step: Step) -> object:
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        try:
            return step.future.result(step.timeout_seconds)
        except CancelledError:
            raise ClientClosedError(CLOSED_MEANWHILE) from None

    def _send(self, step: Send) -> Answer:
        ends_at = time.monotonic() + step.timeout_seconds
        try:
            response = self._pool(step.server).handle_request(self._request(step))
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    _take(body, chunk)
                    # A read timeout starts anew with each chunk: this one does not.
                    if time.monotonic() > ends_at:
                        raise NoAnswer("the answer came too slowly", sent=True)
            finally:
                response.close()
        except httpx.TransportError as failure:
            raise _no_answer(failure) from failure
        except httpx.DecodingError as failure:
            raise NoAnswer(f"undecodable body: {failure}", sent=True) from failure
        return Answer(response.status_code, response.headers, bytes(body))

    def _request(self, step: Send) -> httpx.Request:
        return _httpx_request(step, self._options.connect_seconds)

    def _pool(self, server: str) -> httpx.BaseTransport:
        if self._process != os.getpid():
            # The sockets belong to the parent: forget them without closing anything for it.
            self._process = os.getpid()
            self._pools = {}
        pool = self._pools.get(server)
        if pool is None:
            pool = self._pools[server] = self._new_pool(server)
        return pool

    def _new_pool(self, server: str) -> httpx.BaseTransport:
        given = self._options.transport
        made = given() if callable(given) else given
        if made is None:
            return httpx.HTTPTransport(**self._options.for_server(server))
        if not isinstance(made, httpx.BaseTransport):
            raise TypeError("transport= of NacosClient must be an httpx.BaseTransport")
        return made


class _AsyncPool:
    """A transport, and a line before it.

    httpcore's own line costs time quadratic in its length, and its wait would be counted against
    the server.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, places: int) -> None:
        self.transport = transport
        self._places = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def turn(self, patience_seconds: float) -> AsyncIterator[None]:
        """Wait for a place, then hold it.

        Raises:
            NoAnswer: none was free in time.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + patience_seconds
        try:
            if self._places.locked():
                await asyncio.wait_for(self._places.acquire(), patience_seconds)
            else:
                await self._places.acquire()
        except TimeoutError as failure:
            raise _none_free(patience_seconds) from failure
        try:
            # Those whose time is up give their places to those whose time is up as well.
            if clock() >= ends_at:
                raise _none_free(patience_seconds)
            yield
        finally:
            self._places.release()

    async def exchange(self, request: httpx.Request) -> Answer:
        """Send the request and take the whole answer."""
        from ._cancellation import apart  # it needs anyio, as httpx does once it sends

        return await apart(partial(self._exchange, request))

    async def _exchange(self, request: httpx.Request) -> Answer:
        response = await self.transport.handle_async_request(request)
        body = bytearray()
        try:
            async for chunk in _chunks(response):
                _take(body, chunk)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, bytes(body))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _none_free(patience_seconds: float) -> NoAnswer:
    reason = f"no connection was free within {patience_seconds:.3g} s"
    return NoAnswer(reason, sent=False, ours=True)


class AsyncRunner:
    """Runs operations on the running event loop; each loop gets its own connections."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _AsyncPool]] = (
            weakref.WeakKeyDictionary()
        )
        self._process = os.getpid()

    async def run(self, operation: Operation[T]) -> T:
        """The operation's outcome. Cancelling it closes the operation."""
        step: Step
        try:
            step = next(operation)
            while True:
                try:
                    reply = await self._perform(step)
                except (NoAnswer, TimeoutError) as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(reply)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            operation.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and those of loops that still run elsewhere."""
        here = asyncio.get_running_loop()
        pools, self._pools = self._pools, weakref.WeakKeyDictionary()
        if self._process != os.getpid():
            return
        for loop, by_server in list(pools.items()):
            for pool in by_server.values():
                if loop is here:
                    await pool.transport.aclose()
                elif loop.is_running():
                    closing = asyncio.run_coroutine_threadsafe(pool.transport.aclose(), loop)
                    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                        await asyncio.wait_for(asyncio.wrap_future(closing), ELSEWHERE_SECONDS)

    async def _perform(self, step: Step) -> object:
        if isinstance(step, Send):
            return await self._send(step)
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        future = asyncio.shield(asyncio.wrap_future(step.future))
        try:
            return await asyncio.wait_for(future, step.timeout_seconds)
        except asyncio.CancelledError:
            if step.future.cancelled() and not _is_cancelled():
                raise ClientClosedError(CLOSED_MEANWHILE) from None
            raise

    async def _send(self, step: Send) -> Answer:
        pool = self._pool(step.server)
        request = _httpx_request(step, self._options.connect_seconds)
        ends_at = asyncio.get_running_loop().time() + step.patience_seconds
        try:
            async with pool.turn(step.patience_seconds), _limit(step.timeout_seconds, ends_at):
                return await pool.exchange(request)
        except TimeoutError as failure:
            reason = f"no answer within {step.timeout_seconds:.3g} s"
            raise NoAnswer(reason, sent=True) from failure
        except httpx.TransportError as failure:
            raise _no_answer(failure) from failure
        except httpx.DecodingError as failure:
            raise NoAnswer(f"undecodable body: {failure}", sent=True) from failure

    def _pool(self, server: str) -> _AsyncPool:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._pools = weakref.WeakKeyDictionary()
        by_server = self._pools.setdefault(asyncio.get_running_loop(), {})
        pool = by_server.get(server)
        if pool is None:
            transport = self._new_transport(server)
            pool = by_server[server] = _AsyncPool(transport, self._options.max_connections)
        return pool

    def _new_transport(self, server: str) -> httpx.AsyncBaseTransport:
        given = self._options.transport
        made = given() if callable(given) else given
        if made is None:
            _note_missing_sniffio()
            return httpx.AsyncHTTPTransport(**self._options.for_server(server))
        if isinstance(made, httpx.AsyncBaseTransport):
            return made
        return _InThreads(made)


class _InThreads(httpx.AsyncBaseTransport):
    """A sync transport of the user's, for the background loop of a NacosClient."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.to_thread(self._whole, request)

    def _whole(self, request: httpx.Request) -> httpx.Response:
        response = self._transport.handle_request(request)
        response.read()
        return httpx.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.items() if k != "content-encoding"],
            content=response.content,
        )


def _httpx_request(step: Send, connect_seconds: float) -> httpx.Request:
    request = step.request
    url = _url(step.server, request.path)
    query = _encoded(request.query)
    if query:
        url = url.copy_with(query=query.encode())
    headers, content = step.headers, request.body
    if request.form is not None:
        content = _encoded(request.form).encode()
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    limit = step.timeout_seconds
    timeout = {
        "connect": min(connect_seconds, limit),
        "read": limit,
        "write": limit,
        "pool": limit,
    }
    return httpx.Request(
        request.method, url, headers=headers, content=content, extensions={"timeout": timeout}
    )


@lru_cache(maxsize=512)
def _url(server: str, path: str) -> httpx.URL:
    """Parsed once: there are a few dozen paths, and parsing costs a tenth of a call."""
    return httpx.URL(server + path)


def _encoded(parameters: Mapping[str, object]) -> str:
    return urlencode([(k, _text(v)) for k, v in parameters.items() if v is not None])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _limit(timeout_seconds: float, ends_at: float) -> asyncio.Timeout:
    """The attempt's own time, counted from now, but never beyond the whole operation's."""
    return asyncio.timeout_at(min(asyncio.get_running_loop().time() + timeout_seconds, ends_at))


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body; past httpx's decoders where there is nothing to decode."""
    stream = response.stream
    if "content-encoding" in response.headers or not isinstance(stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(stream)


def _take(body: bytearray, chunk: bytes) -> None:
    body += chunk
    if len(body) > LONGEST_ANSWER:
        raise NoAnswer(f"an answer of more than {LONGEST_ANSWER} bytes", sent=True)


def _no_answer(failure: httpx.TransportError) -> NoAnswer:
    words = str(failure) or type(failure).__name__
    return NoAnswer(
        f"{type(failure).__name__}: {words}" if words != type(failure).__name__ else words,
        sent=not isinstance(failure, UNSENT),
        ours=isinstance(failure, httpx.PoolTimeout),
    )


def _proxy(server: str) -> str | None:
    """The environment's proxy for this server; none for loopback or what `no_proxy` names."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
