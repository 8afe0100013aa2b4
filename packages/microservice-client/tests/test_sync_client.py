import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    AsyncServiceTransport,
    ClientClosedError,
    NoInstanceCallError,
    ServiceClient,
    ServiceTransport,
    parse_policies,
)
from microservice_client.testing import FakeMesh
from microservice_core import (
    InvalidValueError,
    LoopThread,
    LoopThreadError,
    open_service_registry,
)

ADDRESSES = {"orders": ["http://10.0.0.1:80"]}


def zipped(request: httpx.Request) -> httpx.Response:
    body = gzip.compress(request.url.path.encode())
    return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(body))


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", zipped)
    return mesh


async def test_any_httpx_client_can_call_by_name(mesh: FakeMesh) -> None:
    async with (
        AsyncServiceClient(mesh.registry, transport=mesh) as client,
        httpx.AsyncClient(
            transport=AsyncServiceTransport(client), base_url="http://orders/v1", auth=("u", "p")
        ) as http,
    ):
        response = await http.get("/orders/7")
        response.raise_for_status()
        assert response.text == "/v1/orders/7"
        assert mesh.requests[0].headers["authorization"].startswith("Basic")
        with pytest.raises(NoInstanceCallError):
            await http.get("http://stock/")


@pytest.fixture
def sync_mesh() -> FakeMesh:
    mesh = FakeMesh()
    mesh.serve_at("10.0.0.1:80", zipped)
    return mesh


@pytest.fixture
def sync_client(sync_mesh: FakeMesh) -> Iterator[ServiceClient]:
    with ServiceClient.from_addresses(ADDRESSES, transport=sync_mesh) as client:
        yield client
    assert sync_mesh.open_bodies == 0


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])
def test_the_sync_client_has_the_same_methods(
    sync_client: ServiceClient, sync_mesh: FakeMesh, method: str
) -> None:
    response = getattr(sync_client, method)("orders", "/v1/orders/7")
    assert response.status_code == 200
    assert sync_mesh.requests[0].method == method.upper()


def test_the_sync_client_reads_the_body(sync_client: ServiceClient) -> None:
    assert sync_client.get("orders", "/v1/orders/7").text == "/v1/orders/7"
    assert sync_client.breaker_states("orders") == {"10.0.0.1:80": "closed"}


def test_the_sync_transport_serves_any_httpx_client(sync_client: ServiceClient) -> None:
    with httpx.Client(transport=ServiceTransport(sync_client)) as http:
        assert http.get("http://orders/v1/orders/7").text == "/v1/orders/7"
        with pytest.raises(NoInstanceCallError):
            http.get("http://stock/")


def test_the_sync_transport_sends_a_body_from_a_generator(
    sync_client: ServiceClient, sync_mesh: FakeMesh
) -> None:
    def body() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    with httpx.Client(transport=ServiceTransport(sync_client)) as http:
        http.put("http://orders/", content=body())
    assert sync_mesh.requests[0].content == b"ab"


def test_a_sync_client_opens_and_closes_a_provider_by_itself() -> None:
    with (
        ServiceClient(open_service_registry("memory")) as client,
        pytest.raises(NoInstanceCallError, match="no instances registered"),
    ):
        client.get("orders", "/")
    client.close()
    with pytest.raises(LoopThreadError, match="not open"):
        client.get("orders", "/")


def test_a_sync_client_that_cannot_open_leaves_no_thread() -> None:
    client = ServiceClient(open_service_registry("nonsense"))
    with pytest.raises(LookupError, match="no service_registry provider named 'nonsense'"):
        client.__enter__()
    with pytest.raises(LoopThreadError):
        client.get("orders", "/")


async def test_a_client_opened_without_a_block_needs_an_open_registry(mesh: FakeMesh) -> None:
    client = AsyncServiceClient(mesh.registry, transport=mesh).open()
    assert (await client.get("orders", "/hello")).text == "/hello"
    await client.aclose()
    unopened = AsyncServiceClient(open_service_registry("memory"))
    with pytest.raises(InvalidValueError, match="source must be an open registry; only `async"):
        unopened.open()


async def test_fixed_addresses_need_no_registry() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", zipped)
    async with AsyncServiceClient.from_addresses(ADDRESSES, transport=mesh) as client:
        assert (await client.get("orders", "/hello")).text == "/hello"


@pytest.mark.parametrize("url", ["10.0.0.1:80", "ftp://10.0.0.1", "http://", "http://a:1/path"])
def test_an_address_that_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidValueError, match="address of 'orders' must be http"):
        AsyncServiceClient.from_addresses({"orders": [url]})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a", "http://a:80"),
        ("https://a", "https://a:443"),
        ("http://[::1]:8", "http://[::1]:8"),
    ],
)
async def test_an_address_may_leave_out_its_port(url: str, base: str) -> None:
    from microservice_client import StaticAddresses

    (instance,) = await StaticAddresses({"orders": [url]}).get_instances("orders")
    assert instance.base_url == base


def test_the_sync_client_streams_events_lines_and_bytes(
    sync_client: ServiceClient, sync_mesh: FakeMesh
) -> None:
    sync_mesh.serve_at("10.0.0.1:80", lambda _: httpx.Response(200, content=b"data: 1\n\n" * 3))
    assert [event.data for event in sync_client.events("orders", "/")] == ["1", "1", "1"]
    sync_mesh.serve_at("10.0.0.1:80", lambda _: httpx.Response(200, content=b"1\n2\n"))
    assert list(sync_client.json_lines("orders", "/")) == [1, 2]
    with sync_client.stream("GET", "orders", "/") as response:
        assert b"".join(response.iter_bytes()) == b"1\n2\n"
    with sync_client.stream("GET", "orders", "/"):
        pass


def test_the_sync_client_reports_what_the_async_one_reports(sync_client: ServiceClient) -> None:
    sync_client.warm_up(["orders"])
    assert sync_client.discovery_age("orders") is not None
    sync_client.get("orders", "/")
    (record,) = sync_client.recent_calls()
    assert record.outcome == "200"
    assert [len(instances) for instances in sync_client.known_instances().values()] == [1]
    stats = sync_client.stats("orders")
    assert stats is not None
    assert stats.active_calls == {"10.0.0.1:80": 0}
    assert stats.breaker_states == sync_client.breaker_states("orders")
    assert sync_client.stats("stock") is None
    sync_client.apply_policies(parse_policies({"default": {"version": ">=9"}}))
    with pytest.raises(NoInstanceCallError, match="filter_by_version"):
        sync_client.get("orders", "/")


def test_a_sync_client_of_an_async_one_leaves_it_open(sync_mesh: FakeMesh) -> None:
    async_client = AsyncServiceClient.from_addresses(ADDRESSES, transport=sync_mesh)
    with LoopThread() as loop:
        loop.run(async_client.__aenter__())
        with ServiceClient.from_async(async_client, loop) as client:
            assert client.get("orders", "/v1").text == "/v1"
        assert loop.run(async_client.get("orders", "/v2")).text == "/v2"
        loop.run(async_client.aclose())


async def test_an_async_client_refuses_a_body_that_can_only_be_read_synchronously(
    mesh: FakeMesh,
) -> None:
    request = httpx.Request("POST", "http://orders/", content=iter([b"ab"]))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(TypeError, match="asynchronously"):
            await client.call("orders", request)
    assert mesh.requests == []


def test_a_sync_websocket_address_is_held_until_the_block_ends(sync_client: ServiceClient) -> None:
    with sync_client.websocket_url("orders", "/live") as url:
        assert url == "ws://10.0.0.1:80/live"
    with pytest.raises(OSError, match="gone"), sync_client.websocket_url("orders", "/live"):
        raise OSError("gone")


def test_a_stream_that_outlives_its_client_is_closed_quietly(sync_mesh: FakeMesh) -> None:
    with ServiceClient.from_addresses(ADDRESSES, transport=sync_mesh) as client:
        opened = client.stream("GET", "orders", "/")
        opened.__enter__()
        events = client.json_lines("orders", "/")
    assert not client.is_open
    assert sync_mesh.closed
    opened.__exit__(None, None, None)
    events.close()  # type: ignore[attr-defined] # a generator
    assert list(events) == []


def test_a_sync_request_with_an_async_body_is_sent_too(
    sync_client: ServiceClient, sync_mesh: FakeMesh
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ab"

    sync_client.put("orders", "/", content=body())
    with sync_client.stream("PUT", "orders", "/", content=body()):
        assert [request.content for request in sync_mesh.requests] == [b"ab", b"ab"]


def test_a_sync_redirect_that_names_the_instance_leads_to_its_service() -> None:
    mesh = FakeMesh()

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/items/":
            return httpx.Response(200)
        return httpx.Response(307, headers={"location": "http://10.0.0.1/items/"})

    mesh.serve_at("10.0.0.1:80", respond)
    with (
        ServiceClient.from_addresses(ADDRESSES, transport=mesh) as client,
        httpx.Client(transport=ServiceTransport(client), follow_redirects=True) as http,
    ):
        assert str(http.get("http://orders/items").url) == "http://orders/items/"


def test_a_client_whose_loop_has_ended_says_so() -> None:
    client = AsyncServiceClient.from_addresses(ADDRESSES, transport=FakeMesh())

    async def open_it() -> None:
        client.open()

    async def use_it() -> None:
        with pytest.raises(
            ClientClosedError, match=r"the event loop .* has ended; open the client"
        ):
            await client.get("orders", "/")
        with pytest.raises(ClientClosedError, match="has ended"):
            async with client.stream("GET", "orders", "/"):
                pass
        await client.aclose()
        with pytest.raises(ClientClosedError, match="not open"):
            await client.get("orders", "/")

    asyncio.run(open_it())
    asyncio.run(use_it())
