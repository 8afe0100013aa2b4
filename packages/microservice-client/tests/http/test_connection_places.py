import asyncio
import threading

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    AsyncServiceTransport,
    ClientClosedError,
    NoFreeConnectionError,
    ServicePolicy,
)
from microservice_client.http.connection_places import ConnectionPlaces
from microservice_client.http.connections import Connections
from microservice_client.http.paced_connects import MAX_CONNECTS, PacedConnects
from microservice_core import ServiceInstance

ORDERS = "http://10.0.0.1:80"


async def turns_of_the_loop(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(st.integers(1, 4), st.lists(st.sampled_from(["take", "give", "cancel"]), max_size=40))
def test_places_are_never_lost_and_pass_in_order_of_arrival(limit: int, steps: list[str]) -> None:
    async def run() -> None:
        places = ConnectionPlaces(limit)
        order: list[int] = []
        waits: list[asyncio.Task[bool]] = []
        expected: list[int] = []

        async def take(number: int) -> bool:
            taken = await places.take()
            order.append(number)
            return taken

        given_back = 0
        for number, step in enumerate(steps):
            if step == "take":
                waits.append(asyncio.create_task(take(number), name=str(number)))
                expected.append(number)
                await turns_of_the_loop(2)
            elif step == "give" and len(order) > given_back:
                places.give_back()
                given_back += 1
            elif step == "cancel" and waits:
                # Also in the moment in which it is handed the place.
                waiting = [task for task in waits if not task.done()]
                if waiting:
                    waiting[0].cancel()
                    expected.remove(int(waiting[0].get_name()))
                    await turns_of_the_loop(3)
            assert places.in_use <= limit
        await turns_of_the_loop(5)
        assert order == expected[: len(order)]
        assert places.in_use == len(order) - given_back
        assert places.in_use == limit or not places.waiting
        waiting = [task for task in waits if not task.done()]
        places.close()
        assert not any(await asyncio.gather(*waiting))
        assert places.waiting == 0

    asyncio.run(run())


async def test_a_place_handed_over_in_the_moment_of_a_cancellation_passes_on() -> None:
    places = ConnectionPlaces(1)
    assert places.try_take()
    first, second = (asyncio.create_task(places.take()) for _ in range(2))
    await turns_of_the_loop()
    places.give_back()
    first.cancel()
    assert await second
    assert first.cancelled()
    places.give_back()
    assert (places.in_use, places.waiting) == (0, 0)


async def test_a_place_may_be_given_back_in_another_thread() -> None:
    places = ConnectionPlaces(1)
    assert places.try_take()
    waiting = asyncio.create_task(places.take())
    await turns_of_the_loop()
    thread = threading.Thread(target=places.give_back)
    thread.start()
    assert await waiting
    thread.join()
    assert places.in_use == 1


class Held(httpx.AsyncBaseTransport):
    """Keeps each request until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.sent: list[str] = []
        self.only = ""  # the host whose requests are kept; empty = all

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.url.host)
        if self.only in ("", request.url.host):
            await self.let_go.wait()
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """The requests that the pools of all instances send."""
    held = Held()
    monkeypatch.setattr(
        "microservice_client.http.connections.make_httpx_pool", lambda policy, tls: held
    )
    return held


def open_client(*addresses: str, **fields: object) -> AsyncServiceClient:
    policy = ServicePolicy(
        max_connections_per_instance=2,
        attempt_timeout_seconds=60,
        total_timeout_seconds=120,
        breaker_failures=1,
        backoff_seconds=0,
    ).model_copy(update=fields)
    return AsyncServiceClient.from_addresses(
        {"orders": addresses or (ORDERS,)}, connection_layer="httpx", default_policy=policy
    )


async def test_a_call_that_gets_no_connection_says_so_and_blames_no_instance(held: Held) -> None:
    async with open_client() as client:
        holders = [asyncio.create_task(client.get("orders", "/")) for _ in range(2)]
        await turns_of_the_loop()
        calls = (client.get("orders", "/", timeout=0.01) for _ in range(3))
        error, *_ = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(error, NoFreeConnectionError)
        assert "no free connection (2 in use, `max_connections_per_instance`)" in str(error)
        assert (error.service, error.instance, error.limit) == ("orders", "10.0.0.1:80", 2)
        assert error.waited_seconds > 0
        assert error.attempts == ()
        assert isinstance(error, httpx.PoolTimeout | TimeoutError)
        assert client.breaker_states("orders") == {"10.0.0.1:80": "closed"}
        held.let_go.set()
        assert [response.text for response in await asyncio.gather(*holders)] == ["ok"] * 2
        assert (await client.get("orders", "/")).text == "ok"
    assert len(held.sent) == 3


async def test_calls_get_connections_in_order_and_none_is_lost(held: Held) -> None:
    async with open_client() as client:
        calls = [asyncio.create_task(client.get("orders", f"/{n}")) for n in range(8)]
        await turns_of_the_loop()
        assert len(held.sent) == 2
        for call in calls[1::2]:
            call.cancel()  # one that has a connection, and three that wait
        held.let_go.set()
        responses = await asyncio.gather(*calls[::2])
        assert [response.request.url.path for response in responses] == ["/0", "/2", "/4", "/6"]
        stats = client.stats("orders")
        assert stats is not None
        assert stats.active_calls == {"10.0.0.1:80": 0}
        together = [asyncio.create_task(client.get("orders", "/")) for _ in range(2)]
        await asyncio.gather(*together)


async def test_a_stream_holds_its_connection_until_it_is_closed(held: Held) -> None:
    held.let_go.set()
    async with open_client(max_connections_per_instance=1) as client:
        async with client.stream("GET", "orders", "/"):
            with pytest.raises(NoFreeConnectionError):
                await client.get("orders", "/", timeout=0.01)
        assert (await client.get("orders", "/")).text == "ok"


async def test_a_wait_that_is_too_long_goes_on_at_another_instance(held: Held) -> None:
    policy: dict[str, object] = {
        "attempt_timeout_seconds": 0.05,
        "balancer": "round_robin",
        "attempts": 1,
    }
    async with open_client(ORDERS, "http://10.0.0.2:80", **policy) as client:
        held.only = "10.0.0.1"
        calls = (client.get("orders", "/", policy=ServicePolicy()) for _ in range(4))
        holding = [asyncio.create_task(call) for call in calls]
        await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(4):
            assert (await client.get("orders", "/")).text == "ok"
        assert set(client.breaker_states("orders").values()) == {"closed"}
        for task in holding:
            task.cancel()
    assert held.sent.count("10.0.0.1") == 2


async def test_what_waits_for_a_connection_ends_with_the_client(held: Held) -> None:
    async with open_client(max_connections_per_instance=1) as client:
        first = asyncio.create_task(client.get("orders", "/"))
        second = asyncio.create_task(client.get("orders", "/"))
        await turns_of_the_loop()
    with pytest.raises(ClientClosedError):
        await second
    held.let_go.set()
    await first
    assert len(held.sent) == 1


async def test_closed_connections_are_not_opened_once_more() -> None:
    connections = Connections(None, layer="httpx")
    await connections.aclose()
    with pytest.raises(ClientClosedError):
        connections.find_pool(ServicePolicy(), ServiceInstance("orders", "10.0.0.1", 80))


async def test_a_pool_of_the_callers_own_transport_is_no_failure_of_the_instance() -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.PoolTimeout("full", request=request)

    policy = ServicePolicy(breaker_failures=1)
    async with AsyncServiceClient.from_addresses(
        {"orders": [ORDERS]}, transport=httpx.MockTransport(refuse), default_policy=policy
    ) as client:
        for _ in range(2):
            with pytest.raises(NoFreeConnectionError, match="no free connection to 10") as caught:
                await client.get("orders", "/")
            assert caught.value.limit is None
        assert client.breaker_states("orders") == {"10.0.0.1:80": "closed"}


async def test_the_pool_time_of_an_httpx_client_limits_the_wait(held: Held) -> None:
    async with open_client(max_connections_per_instance=1) as client:
        first = asyncio.create_task(client.get("orders", "/"))
        await turns_of_the_loop()
        timeout = httpx.Timeout(60, pool=0.01)
        async with httpx.AsyncClient(
            transport=AsyncServiceTransport(client), timeout=timeout
        ) as http:
            with pytest.raises(httpx.PoolTimeout):
                await http.get("http://orders/")
        held.let_go.set()
        await first


class Connecting(httpx.AsyncBaseTransport):
    """Reports what httpx reports while it connects, and waits until it is let go."""

    def __init__(self) -> None:
        self.connecting = 0
        self.let_go = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.started", {})
        self.connecting += 1
        await self.let_go.wait()
        self.connecting -= 1
        await trace("http11.send_request_headers.started", {})
        return httpx.Response(200)


async def test_not_all_connections_are_opened_at_once() -> None:
    inner, seen = Connecting(), []

    async def follow(event: str, details: object) -> None:
        seen.append(event)

    paced = PacedConnects(inner)

    async def send() -> httpx.Response:
        request = httpx.Request("GET", ORDERS, extensions={"trace": follow})
        return await paced.handle_async_request(request)

    sending = [asyncio.create_task(send()) for _ in range(MAX_CONNECTS + 5)]
    await turns_of_the_loop()
    assert inner.connecting == MAX_CONNECTS
    sending[0].cancel()
    await turns_of_the_loop()
    assert inner.connecting == MAX_CONNECTS + 1  # the one that was cancelled does not count down
    inner.let_go.set()
    await asyncio.wait(sending)
    assert sum(not task.cancelled() for task in sending) == MAX_CONNECTS + 4
    assert seen.count("connection.connect_tcp.started") == MAX_CONNECTS + 5
    await paced.aclose()
