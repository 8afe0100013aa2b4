"""The one module that imports httpx: runs operations, sync or async, on pooled connections.

httpx's transports are used without its clients: that avoids redirects, cookies and environment
settings, and a third of the time of each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
import urllib.request
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from ._steps import (
    CLOSED_DURING_CALL,
    NoResponse,
    Operation,
    Response,
    Send,
    Sleep,
    Step,
    encode_parameters,
    list_parameters,
)
from .errors import ClientClosedError, InvalidArgumentError, MissingDependencyError

__all__ = ("AsyncRunner", "SyncRunner", "TransportOptions")

T = TypeVar("T")

# Nacos' Tomcat closes idle connections after 60 s (measured on 3.1.0).
_KEEPALIVE_SECONDS = 50.0
_OTHER_LOOP_CLOSE_SECONDS = 0.5
_MAX_BODY_BYTES = 64 * 1024 * 1024
# What a server reads of a form by default. Percent signs triple text that is not ASCII; the parts of
# a multipart form have none, but a lower limit each.
_MAX_FORM_BYTES = 2 * 1024 * 1024
_MAX_PART_BYTES = 1024 * 1024
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

AnyTransport = httpx.BaseTransport | httpx.AsyncBaseTransport


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How connections are made.

    Attributes:
        transport: a transport given by the user, or a callable that makes one.
        trust_env: proxies come from the environment, but never for loopback addresses.
    """

    connect_seconds: float = 1.0
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    trust_env: bool = True
    max_connections: int = 16
    transport: AnyTransport | Callable[[], AnyTransport] | None = None

    def build_tls_context(self) -> ssl.SSLContext:
        """The context for https servers."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file is None and not context.get_ca_certs():
            # A system without CA certificates: httpx brings a bundle.
            context = httpx.create_ssl_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def get_transport(self) -> AnyTransport | None:
        """The user's transport for one server; None when httpx's own is used."""
        transport = self.transport
        # A transport is no callable: httpx defines no __call__ on its transports.
        return transport() if callable(transport) else transport

    def build_arguments(self, server: str) -> dict[str, Any]:
        """The arguments of httpx's own transports for this server."""
        is_secure = server.startswith("https://")
        return {
            # Loading the CA bundle costs 20 ms and 5 MB: only for servers with TLS.
            "verify": self.build_tls_context()
            if is_secure
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            "trust_env": False,
            "proxy": _find_proxy(server) if self.trust_env else None,
            "limits": httpx.Limits(
                max_connections=self.max_connections,
                max_keepalive_connections=self.max_connections,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
            "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        }


def _build_own(kind: Callable[..., T], options: TransportOptions, server: str) -> T:
    """The transport of httpx for this server.

    Raises:
        MissingDependencyError: the environment names a SOCKS proxy, and a package for it is missing.
        InvalidArgumentError: the environment's proxy is none.
    """
    arguments = options.build_arguments(server)
    try:
        return kind(**arguments)
    except ImportError:
        raise MissingDependencyError(
            "the proxy that the environment names for Nacos is a SOCKS proxy, which needs: pip "
            "install 'httpx[socks]'; or leave proxies out with trust_env=False or no_proxy"
        ) from None
    except (ValueError, httpx.InvalidURL):
        if arguments["proxy"] is None:
            raise
        # Without the value: it may hold a password.
        scheme = urlsplit(server).scheme
        rule = "a URL of a proxy; leave it out with trust_env=False or no_proxy"
        raise InvalidArgumentError(f"{scheme}_proxy", "<another value>", rule) from None


class SyncRunner:
    """Runs operations in the calling thread; a forked child gets its own connections."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._pools: dict[str, httpx.BaseTransport] = {}
        self._process = os.getpid()

    def run(self, operation: Operation[T]) -> T:
        """Run the operation; returns its outcome."""
        step: Step
        try:
            step = next(operation)
            while True:
                try:
                    outcome = self._perform(step)
                except (NoResponse, TimeoutError) as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(outcome)
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
            raise ClientClosedError(CLOSED_DURING_CALL) from None

    def _send(self, step: Send) -> Response:
        ends_at = time.monotonic() + step.timeout_seconds
        try:
            request = _build_request(step, self._options.connect_seconds)
            response = self._get_pool(step.server).handle_request(request)
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    _append(body, chunk)
                    # httpx's read timeout starts again with each chunk; this one does not.
                    if time.monotonic() > ends_at:
                        raise NoResponse("the response came too slowly", sent=True)
            finally:
                response.close()
        except httpx.TransportError as failure:
            raise _to_no_response(failure) from failure
        except httpx.DecodingError as failure:
            raise NoResponse(f"undecodable body: {failure}", sent=True) from failure
        return Response(response.status_code, response.headers, bytes(body))

    def _get_pool(self, server: str) -> httpx.BaseTransport:
        if self._process != os.getpid():
            # The sockets belong to the parent process too: drop them without closing its connections.
            self._process = os.getpid()
            self._pools = {}
        pool = self._pools.get(server)
        if pool is None:
            pool = self._pools[server] = self._create_pool(server)
        return pool

    def _create_pool(self, server: str) -> httpx.BaseTransport:
        transport = self._options.get_transport()
        if transport is None:
            return _build_own(httpx.HTTPTransport, self._options, server)
        if not isinstance(transport, httpx.BaseTransport):
            raise TypeError("transport= of NacosClient must be an httpx.BaseTransport")
        return transport


class _AsyncPool:
    """A transport, and the queue of calls that wait for one of its connections.

    The time of httpcore's own queue is quadratic in its length, and its wait would count against
    the server.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, connections: int) -> None:
        self.transport = transport
        self._free_connections = asyncio.Semaphore(connections)

    @contextlib.asynccontextmanager
    async def hold_connection(self, patience_seconds: float) -> AsyncIterator[None]:
        """Wait for a free connection, then keep it from other calls.

        Raises:
            NoResponse: none was free in time.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + patience_seconds
        try:
            if self._free_connections.locked():
                await asyncio.wait_for(self._free_connections.acquire(), patience_seconds)
            else:
                await self._free_connections.acquire()
        except TimeoutError as failure:
            raise _no_free_connection(patience_seconds) from failure
        try:
            # In a long queue a call may get its connection in the moment its time is up.
            if clock() >= ends_at:
                raise _no_free_connection(patience_seconds)
            yield
        finally:
            self._free_connections.release()

    async def send(self, request: httpx.Request) -> Response:
        """Send the request and read the whole response."""
        # Imported here since it needs anyio, which httpx imports when it sends, too.
        from ._run_uncancelled import run_uncancelled

        return await run_uncancelled(partial(self._send, request))

    async def _send(self, request: httpx.Request) -> Response:
        response = await self.transport.handle_async_request(request)
        body = bytearray()
        try:
            async for chunk in _iterate_body(response):
                _append(body, chunk)
        finally:
            await response.aclose()
        return Response(response.status_code, response.headers, bytes(body))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _no_free_connection(patience_seconds: float) -> NoResponse:
    reason = f"no connection was free within {patience_seconds:.3g} s"
    return NoResponse(reason, sent=False, local=True)


class AsyncRunner:
    """Runs operations on the running event loop; each loop gets its own connections."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _AsyncPool]] = (
            weakref.WeakKeyDictionary()
        )
        self._process = os.getpid()

    async def run(self, operation: Operation[T]) -> T:
        """Run the operation; returns its outcome. Cancelling the call closes the operation."""
        step: Step
        try:
            step = next(operation)
            while True:
                try:
                    outcome = await self._perform(step)
                except (NoResponse, TimeoutError) as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(outcome)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            operation.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and of loops that run in other threads."""
        running_loop = asyncio.get_running_loop()
        pools, self._pools = self._pools, weakref.WeakKeyDictionary()
        if self._process != os.getpid():
            return
        for loop, by_server in list(pools.items()):
            for pool in by_server.values():
                if loop is running_loop:
                    await pool.transport.aclose()
                elif loop.is_running():
                    closing = asyncio.run_coroutine_threadsafe(pool.transport.aclose(), loop)
                    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                        await asyncio.wait_for(
                            asyncio.wrap_future(closing), _OTHER_LOOP_CLOSE_SECONDS
                        )

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
                raise ClientClosedError(CLOSED_DURING_CALL) from None
            raise

    async def _send(self, step: Send) -> Response:
        pool = self._get_pool(step.server)
        request = _build_request(step, self._options.connect_seconds)
        ends_at = asyncio.get_running_loop().time() + step.patience_seconds
        try:
            async with (
                pool.hold_connection(step.patience_seconds),
                _limit_attempt(step.timeout_seconds, ends_at),
            ):
                return await pool.send(request)
        except TimeoutError as failure:
            reason = f"no response within {step.timeout_seconds:.3g} s"
            raise NoResponse(reason, sent=True) from failure
        except httpx.TransportError as failure:
            raise _to_no_response(failure) from failure
        except httpx.DecodingError as failure:
            raise NoResponse(f"undecodable body: {failure}", sent=True) from failure

    def _get_pool(self, server: str) -> _AsyncPool:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._pools = weakref.WeakKeyDictionary()
        by_server = self._pools.setdefault(asyncio.get_running_loop(), {})
        pool = by_server.get(server)
        if pool is None:
            transport = self._create_transport(server)
            pool = by_server[server] = _AsyncPool(transport, self._options.max_connections)
        return pool

    def _create_transport(self, server: str) -> httpx.AsyncBaseTransport:
        transport = self._options.get_transport()
        if transport is None:
            return _build_own(httpx.AsyncHTTPTransport, self._options, server)
        if isinstance(transport, httpx.AsyncBaseTransport):
            return transport
        return _ThreadedTransport(transport)


class _ThreadedTransport(httpx.AsyncBaseTransport):
    """A sync transport given by the user, for the background loop of a NacosClient."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.to_thread(self._send, request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        response = self._transport.handle_request(request)
        response.read()
        return httpx.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.items() if k != "content-encoding"],
            content=response.content,
        )


def _build_request(step: Send, connect_seconds: float) -> httpx.Request:
    request = step.request
    url = _parse_url(step.server, request.path)
    query = encode_parameters(request.query)
    if query:
        url = url.copy_with(query=query.encode())
    headers, content, files = step.headers, request.body, None
    if request.form is not None:
        content = encode_parameters(request.form).encode()
        if len(content) > _MAX_FORM_BYTES:
            files = _build_files(request.form)
    if files is not None:
        content = None
    elif request.form is not None:
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    limit = step.timeout_seconds
    timeout = {
        "connect": min(connect_seconds, limit),
        "read": limit,
        "write": limit,
        "pool": limit,
    }
    return httpx.Request(
        request.method,
        url,
        headers=headers,
        content=content,
        files=files,
        extensions={"timeout": timeout},
    )


@lru_cache(maxsize=512)
def _parse_url(server: str, path: str) -> httpx.URL:
    """The URL, cached: there are a few dozen paths, and parsing costs a tenth of a call."""
    return httpx.URL(server + path)


def _build_files(form: Mapping[str, object]) -> list[tuple[str, tuple[None, bytes]]] | None:
    """The parts of a multipart form; None where a part is too long for a server's defaults."""
    parts = [(name, value.encode()) for name, value in list_parameters(form)]
    if any(len(value) > _MAX_PART_BYTES for _, value in parts):
        return None
    return [(name, (None, value)) for name, value in parts]


def _limit_attempt(timeout_seconds: float, ends_at: float) -> asyncio.Timeout:
    """The time limit of an attempt, from now on, but never beyond the whole operation's."""
    return asyncio.timeout_at(min(asyncio.get_running_loop().time() + timeout_seconds, ends_at))


def _iterate_body(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's chunks; without httpx's decoders where nothing is encoded."""
    stream = response.stream
    if "content-encoding" in response.headers or not isinstance(stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(stream)


def _append(body: bytearray, chunk: bytes) -> None:
    body += chunk
    if len(body) > _MAX_BODY_BYTES:
        raise NoResponse(f"a response of more than {_MAX_BODY_BYTES} bytes", sent=True)


def _to_no_response(failure: httpx.TransportError) -> NoResponse:
    name, message = type(failure).__name__, str(failure)
    return NoResponse(
        f"{name}: {message}" if message and message != name else name,
        sent=not isinstance(failure, _UNSENT),
        local=isinstance(failure, httpx.PoolTimeout),
    )


def _find_proxy(server: str) -> str | None:
    """The environment's proxy for this server; None for loopback and what `no_proxy` names."""
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
