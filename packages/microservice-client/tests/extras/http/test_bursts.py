"""Many calls at once, on both connection layers against real sockets."""

import asyncio
import contextlib
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    ConnectionLayer,
    NoFreeConnectionError,
    ServicePolicy,
    TlsConfig,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
# The time limits say nothing here: a loaded machine may be slow.
PATIENT = ServicePolicy(
    connect_timeout_seconds=120,
    attempt_timeout_seconds=240,
    total_timeout_seconds=240,
    breaker_open_seconds=600,
)


class Backend:
    """An instance that responds once `let_go` is set; its backlog is that of many a server."""

    def __init__(self, certificate: Path | None) -> None:
        self.let_go = asyncio.Event()
        self.busy = self.most_busy = 0
        self.changed: Callable[[], None] = lambda: None
        self.address = ""
        self._certificate = certificate
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._certificate is None else 'https'}://{self.address}"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Backend"]:
        context = None
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        server = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=100, ssl=context)
        self._server = await server
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.die()

    def die(self) -> None:
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                self.changed()
                try:
                    await self.let_go.wait()
                finally:
                    self.busy -= 1
                writer.write(OK)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()


@pytest.fixture(params=["httpx", "aiohttp"])
def layer(request: pytest.FixtureRequest) -> ConnectionLayer:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    file = tmp_path_factory.mktemp("tls") / "orders.pem"
    key = file.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(file), "-subj", "/CN=orders"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


@contextlib.asynccontextmanager
async def calling(
    layer: ConnectionLayer, policy: ServicePolicy, count: int = 1, certificate: Path | None = None
) -> AsyncIterator[tuple[AsyncServiceClient, list[Backend]]]:
    if certificate is not None:
        policy = policy.model_copy(update={"tls": TlsConfig(ca_file=str(certificate))})
    async with contextlib.AsyncExitStack() as stack:
        backends = [Backend(certificate) for _ in range(count)]
        for backend in backends:
            await stack.enter_async_context(backend.serving())
        client = AsyncServiceClient.from_addresses(
            {"orders": [backend.url for backend in backends]},
            connection_layer=layer,
            default_policy=policy,
        )
        yield await stack.enter_async_context(client), backends


async def call_at_once(client: AsyncServiceClient, count: int) -> Counter[str]:
    calls = (client.get("orders", "/") for _ in range(count))
    results = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(
        str(result.status_code) if isinstance(result, httpx.Response) else type(result).__name__
        for result in results
    )


async def wait_until_busy(backend: Backend, count: int) -> None:
    reached = asyncio.Event()
    backend.changed = lambda: reached.set() if backend.busy >= count else None
    await reached.wait()


async def succeed(
    layer: ConnectionLayer, calls: int, instances: int, certificate: Path | None = None
) -> None:
    async with calling(layer, PATIENT, instances, certificate) as (client, backends):
        for backend in backends:
            backend.let_go.set()
        assert await call_at_once(client, calls) == {"200": calls}
        assert set(client.breaker_states("orders").values()) == {"closed"}
        assert all(backend.most_busy <= 400 for backend in backends)


async def test_a_burst_above_the_limit_succeeds(layer: ConnectionLayer) -> None:
    await succeed(layer, 500, instances=1)


@pytest.mark.slow
@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("calls", [700, 2000])
async def test_larger_bursts_succeed(layer: ConnectionLayer, calls: int, instances: int) -> None:
    await succeed(layer, calls, instances)


@pytest.mark.slow
@pytest.mark.parametrize("instances", [1, 3])
async def test_a_burst_over_tls_succeeds(
    layer: ConnectionLayer, instances: int, certificate: Path
) -> None:
    await succeed(layer, 700, instances, certificate)


async def test_an_instance_may_be_busy_with_some_hundred_calls_at_a_time(
    layer: ConnectionLayer,
) -> None:
    async with calling(layer, PATIENT) as (client, [backend]):
        calls = asyncio.create_task(call_at_once(client, 150))
        await wait_until_busy(backend, 150)
        backend.let_go.set()
        assert await calls == {"200": 150}


async def test_waiting_for_a_connection_is_no_slow_connect(layer: ConnectionLayer) -> None:
    policy = PATIENT.model_copy(update={"max_connections_per_instance": 5, "breaker_failures": 1})
    async with calling(layer, policy) as (client, [backend]):
        holding = asyncio.create_task(call_at_once(client, 5))
        await wait_until_busy(backend, 5)
        calls = (client.get("orders", "/", timeout=0.05) for _ in range(10))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {NoFreeConnectionError}
        assert set(client.breaker_states("orders").values()) == {"closed"}
        backend.let_go.set()
        assert await holding == {"200": 5}
        assert await call_at_once(client, 20) == {"200": 20}


async def test_an_instance_that_dies_in_a_burst_is_blamed_for_it(layer: ConnectionLayer) -> None:
    policy = PATIENT.model_copy(
        update={"max_connections_per_instance": 20, "retry_budget_ratio": 10, "attempts": 10}
    )
    async with calling(layer, policy, 3) as (client, [dying, *others]):
        calls = asyncio.create_task(call_at_once(client, 150))
        await wait_until_busy(dying, 20)
        dying.die()
        for backend in others:
            backend.let_go.set()
        assert await calls == {"200": 150}
        states = client.breaker_states("orders")
        assert Counter(states.values()) == {"open": 1, "closed": 2}
        assert states[dying.address] == "open"
