"""Calls by name while real processes and sockets fail in every way they can."""

import asyncio
import gc
import random
import socket
import ssl
import struct
import subprocess
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    CallTimeoutError,
    ServiceCallError,
    ServicePolicy,
    TlsConfig,
)
from microservice_client.testing import FakeMesh
from microservice_core import InMemoryServiceRegistry
from microservice_core.testing import ManualClock

pytestmark = pytest.mark.timeout(240)

QUICK = ServicePolicy(
    backoff_seconds=0.001,
    connect_timeout_seconds=0.5,
    attempt_timeout_seconds=0.5,
    breaker_open_seconds=0.5,
    balancer="round_robin",
)
Listening = Callable[..., Awaitable[str]]


def client_of(urls: list[str], layer: Any, **fields: object) -> AsyncServiceClient:
    policy = ServicePolicy.model_validate({**QUICK.model_dump(), **fields})
    return AsyncServiceClient.from_addresses(
        {"orders": urls}, connection_layer=layer, default_policy=policy
    )


class Load:
    """Workers that call without a pause until told to stop, and count what failed."""

    def __init__(self, client: AsyncServiceClient, workers: int = 8) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._client = client
        self._ended = asyncio.Event()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    async def _work(self) -> None:
        while not self._ended.is_set():
            try:
                (await self._client.get("orders", "/who")).raise_for_status()
            except httpx.HTTPError as error:
                self.failures.append(str(error))
            else:
                self.answered += 1

    async def more(self, calls: int) -> None:
        """Wait until that many more calls were answered."""
        wanted = self.answered + calls
        async with asyncio.timeout(60):
            while self.answered < wanted:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)


async def test_killing_one_instance_fails_no_idempotent_call(fleet: Any, layer: str) -> None:
    backends = await fleet.start(3)
    async with client_of([one.url for one in backends], layer) as client:
        load = Load(client)
        await load.more(200)
        backends[0].kill()
        await load.more(400)
        await backends[0].restart()
        await load.more(400)
        await load.end()
        assert load.failures == []
        assert (await client.get("orders", "/who")).status_code == 200


async def test_an_instance_that_came_back_is_called_again(fleet: Any, layer: str) -> None:
    backends = await fleet.start(2)
    async with client_of([one.url for one in backends], layer, breaker_failures=1) as client:
        backends[0].kill()
        for _ in range(5):
            assert (await client.get("orders", "/who")).json() == backends[1].name
        await backends[0].restart()
        async with asyncio.timeout(30):
            while (await client.get("orders", "/who")).json() != backends[0].name:
                await asyncio.sleep(0.01)


async def test_a_paused_instance_costs_one_attempts_time_and_is_then_left_alone(
    fleet: Any, layer: str
) -> None:
    backends = await fleet.start(2)
    async with client_of(
        [one.url for one in backends], layer, breaker_failures=2, breaker_open_seconds=600
    ) as client:
        for _ in range(4):
            await client.get("orders", "/who")
        backends[0].pause()
        for _ in range(12):
            assert (await client.get("orders", "/who")).json() == backends[1].name
        states = client.breaker_states("orders")
        assert sorted(states.values()) == ["closed", "open"]
        tried = [one for call in client.recent_calls() for one in call.attempts]
        assert [one.outcome for one in tried].count("TimeoutError") + [
            one.outcome for one in tried
        ].count("ReadTimeout") == 2


async def test_a_rolling_restart_with_a_registry_fails_no_idempotent_call(
    fleet: Any, layer: Any
) -> None:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    old = await fleet.start(3)
    for one in old:
        await registry.register(one.instance)
    async with AsyncServiceClient(registry, connection_layer=layer, default_policy=QUICK) as client:
        load = Load(client)
        await load.more(100)
        for leaving in old:
            (arriving,) = await fleet.start(1)
            await registry.register(arriving.instance)
            await registry.deregister(leaving.instance)
            await load.more(50)
            leaving.terminate()
            await load.more(100)
        await load.end()
        assert load.failures == []
        assert set(client.breaker_states("orders")) == {
            one.instance.instance_id for one in fleet.backends[3:]
        }


async def test_a_rolling_restart_in_place_fails_no_idempotent_call(fleet: Any, layer: str) -> None:
    backends = await fleet.start(3)
    async with client_of([one.url for one in backends], layer) as client:
        load = Load(client)
        for one in backends:
            await load.more(100)
            one.terminate()
            await asyncio.to_thread(one.process.wait)
            await load.more(100)
            await one.restart()
            await load.more(100)
        await load.end()
        assert load.failures == []


async def test_a_black_hole_costs_no_more_than_the_time_given(
    fleet: Any, layer: str, listening: Listening
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    (backend,) = await fleet.start(1)
    hole = await listening(swallow)
    async with client_of([hole, backend.url], layer) as client:
        for _ in range(4):
            assert (await client.get("orders", "/who")).json() == backend.name
    async with client_of([hole], layer) as client:
        with pytest.raises(CallTimeoutError):
            await client.get("orders", "/who", timeout=0.3)


async def test_a_full_backlog_is_a_connection_that_was_never_made(fleet: Any, layer: str) -> None:
    (backend,) = await fleet.start(1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(address)
            async with client_of(
                [f"http://127.0.0.1:{address[1]}", backend.url], layer, connect_timeout_seconds=0.2
            ) as client:
                for _ in range(4):
                    response = await client.post("orders", "/echo", content=b"once")
                    assert response.content == b"once"


def resetting(after: bytes) -> Callable[..., Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(after)
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return serve


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"what?\r\n\r\n", b"\x00" * 2000]
)
async def test_a_reset_or_garbage_sends_an_idempotent_call_elsewhere_and_no_other(
    fleet: Any, layer: str, listening: Listening, sent: bytes
) -> None:
    (backend,) = await fleet.start(1)
    bad = await listening(resetting(sent))
    async with client_of([bad, backend.url], layer) as client:
        for _ in range(3):
            assert (await client.get("orders", "/who")).json() == backend.name
    async with client_of([bad], layer) as client:
        with pytest.raises(CallFailedError) as caught:
            await client.post("orders", "/echo", content=b"x")
        assert len(caught.value.attempts) == 1


async def test_a_reset_in_the_body_is_told_and_not_retried(
    layer: str, listening: Listening
) -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    bad = await listening(resetting(half))
    async with client_of([bad], layer) as client:
        with pytest.raises(ServiceCallError, match=r"broke off|every attempt failed"):
            await client.get("orders", "/who")


async def test_a_kept_connection_that_the_other_side_closed_is_replaced(
    layer: str, listening: Listening
) -> None:
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")  # says nothing of closing
        await writer.drain()
        if connections % 2:
            writer.write_eof()
            await reader.read()

    url = await listening(once)
    async with client_of([url], layer, attempts=3) as client:
        for _ in range(10):
            assert (await client.get("orders", "/who")).text == "ok"


async def test_who_says_not_now_is_asked_again_when_the_time_has_come(
    fleet: Any, layer: str
) -> None:
    (backend,) = await fleet.start(1)
    async with client_of([backend.url], layer, breaker_failures=99) as client:
        response = await client.get("orders", "/status/503", params={"retry_after": "1"})
        assert response.status_code == 503
        (call,) = client.recent_calls()
        assert len(call.attempts) == 3
        assert call.duration_seconds >= 2.0
        response = await client.get("orders", "/status/429", params={"retry_after": "600"})
        assert response.status_code == 429
        assert len(client.recent_calls()[0].attempts) == 1


async def test_a_slow_instance_is_hedged(fleet: Any, layer: str, listening: Listening) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    (backend,) = await fleet.start(1)
    url = await listening(slow)
    async with client_of(
        [url, backend.url], layer, hedge_after_seconds=0.01, attempt_timeout_seconds=9
    ) as client:
        for _ in range(4):
            assert (await client.get("orders", "/who")).json() == backend.name


class Authority:
    """A certificate authority and what it has signed, made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test-ca",
                      "-keyout", "ca.key", "-out", "ca.pem", "-days", "1")  # fmt: skip
        self.ca = str(folder / "ca.pem")

    def sign(self, name: str) -> tuple[str, str]:
        """Certificate and key for a name."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "1", "-extfile", f"{name}.ext",
                      "-out", f"{name}.pem")  # fmt: skip
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def test_tls_and_mutual_tls_per_service(authority: Authority, layer: Any) -> None:
    certificate, key = authority.sign("orders.internal")
    own_certificate, own_key = authority.sign("caller")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    server_side.load_cert_chain(certificate, key)
    server_side.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    good = TlsConfig(
        ca_file=authority.ca,
        certificate_file=own_certificate,
        key_file=own_key,
        server_name="orders.internal",
    )
    bad = {
        "nobody vouches for it": good.model_copy(update={"ca_file": None}),
        "another name": good.model_copy(update={"server_name": "stock.internal"}),
        "we show nothing": good.model_copy(update={"certificate_file": None, "key_file": None}),
    }
    async with server:
        async with client_of([url], layer, tls=good.model_dump()) as client:
            assert (await client.get("orders", "/who")).text == "ok"
        for why, tls in bad.items():
            async with client_of([url], layer, tls=tls.model_dump(), attempts=1) as client:
                with pytest.raises(httpx.TransportError) as caught:
                    await client.get("orders", "/who")
                assert isinstance(caught.value, CallFailedError), why


async def test_http_2_is_spoken_where_the_policy_asks_for_it(authority: Authority) -> None:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import RequestReceived

    certificate, key = authority.sign("orders.internal")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, b"ok", end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tls = {"ca_file": authority.ca, "server_name": "orders.internal"}
    async with server, client_of([url], "auto", http2=True, tls=tls) as client:
        first, *more = [await client.get("orders", "/who") for _ in range(3)]
        assert (first.text, first.http_version) == ("ok", "HTTP/2")
        assert [one.text for one in more] == ["ok", "ok"]
        assert connections == 1


# asyncio, below aiohttp, leaves the socket of a failed handshake to the collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_plain_server_behind_an_https_address_is_an_error_that_names_it(
    layer: Any, listening: Listening
) -> None:
    url = await listening(resetting(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    async with client_of([url.replace("http:", "https:")], layer, attempts=1) as client:
        with pytest.raises(CallFailedError) as caught:
            await client.get("orders", "/who")
    assert caught.value.instance in url
    gc.collect()


async def test_events_stream_from_a_real_server(fleet: Any, layer: str) -> None:
    (backend,) = await fleet.start(1)
    async with client_of([backend.url], layer) as client:
        got = [event async for event in client.events("orders", "/events", params={"count": 50})]
    assert [event.id for event in got] == [str(number) for number in range(50)]


# anyio, below httpx, loses a stream when it is cancelled in the moment the connection was made; the
# collector closes it, with a ResourceWarning. aiohttp does not.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_storm_of_cancellations_leaves_no_connection_taken(fleet: Any, layer: str) -> None:
    backends = await fleet.start(2)
    rng = random.Random(7)
    async with client_of(
        [one.url for one in backends], layer, max_connections_per_instance=5,
        connect_timeout_seconds=5, attempt_timeout_seconds=5,
    ) as client:  # fmt: skip
        for _ in range(10):
            calls = [
                asyncio.create_task(client.get("orders", "/who", params={"delay": 0.02}))
                for _ in range(40)
            ]
            await asyncio.sleep(rng.random() * 0.05)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        answers = await asyncio.gather(*(client.get("orders", "/who") for _ in range(40)))
        assert {one.status_code for one in answers} == {200}
        assert set(client.breaker_states("orders").values()) == {"closed"}
    gc.collect()


async def test_a_day_of_coming_and_going_leaves_the_memory_flat() -> None:
    """24 hours by the client's clock: an instance comes or goes each minute, calls all the time."""
    clock, rng = ManualClock(), random.Random(7)
    mesh = FakeMesh()
    here: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if rng.random() < 0.02 else 200)

    async def minute(number: int, client: AsyncServiceClient) -> None:
        if len(here) < 2 or (len(here) < 10 and rng.random() < 0.5):
            address = f"10.0.{number // 250}.{number % 250 + 1}:80"
            await mesh.start("orders", address, answer)
            here.append(address)
        else:
            leaving = here.pop(rng.randrange(len(here)))
            await mesh.stop(leaving)
            mesh._handlers.pop(leaving)
            mesh.heal(leaving)
        for _ in range(5):
            await asyncio.sleep(0)
        for _ in range(10):
            await client.get("orders", "/")
        mesh.requests.clear()
        mesh.request_counts.clear()
        clock.advance(60)

    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        clock=clock,
        default_policy=ServicePolicy(backoff_seconds=0, breaker_open_seconds=30),
    ) as client:
        for number in range(300):
            await minute(number, client)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(300, 24 * 60):
            await minute(number, client)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert set(client.breaker_states("orders")) <= set(here)
    assert after - before < 300_000
