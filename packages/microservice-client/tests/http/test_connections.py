import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import AsyncServiceClient, ServicePolicy, TlsConfig, parse_policies
from microservice_client.http import urls
from microservice_client.http.connections import (
    Connections,
    Pool,
    make_httpx_pool,
    make_tls_context,
)
from microservice_client.http.requests import address_request
from microservice_client.http.urls import replace_address, service_url
from microservice_core import InMemoryServiceRegistry, ServiceInstance

ORDERS = ServiceInstance("orders", "10.0.0.1", 80)
OTHER = ServiceInstance("orders", "10.0.0.2", 80)
SECURE = ServiceInstance("orders", "10.0.0.3", 443, metadata={"secure": "true"})
POLICY = ServicePolicy()


class Transport(httpx.AsyncBaseTransport):
    """Counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(None, layer="httpx")
    yield connections
    await connections.aclose()


async def test_each_instance_has_connections_of_its_own(connections: Connections) -> None:
    first = connections.find_pool(POLICY, ORDERS)
    assert connections.find_pool(POLICY, ORDERS) is first
    assert connections.find_pool(POLICY, OTHER) is not first
    assert connections.pooled_urls("orders") == ("http://10.0.0.1:80", "http://10.0.0.2:80")
    assert connections.pooled_urls("stock") == ()


async def test_connections_of_an_instance_that_is_gone_are_closed(connections: Connections) -> None:
    pool = connections.find_pool(POLICY, ORDERS)
    connections.find_pool(POLICY, OTHER)
    connections.keep_only("stock", ())
    assert len(connections.pooled_urls("orders")) == 2
    connections.keep_only("orders", {OTHER.base_url})
    assert connections.pooled_urls("orders") == (OTHER.base_url,)
    assert pool.retired


def test_a_pool_is_closed_when_its_last_call_is_over() -> None:
    closed: list[Pool] = []
    pool = Pool(Transport(), closed.append)
    pool.active += 2
    pool.close_when_idle()
    pool.end_call()
    assert closed == []
    pool.end_call()
    pool.close_when_idle()
    assert closed == [pool]
    idle = Pool(Transport(), closed.append)
    idle.close_when_idle()
    assert closed == [pool, idle]


async def test_a_transport_that_was_handed_in_carries_everything_and_is_closed() -> None:
    transport = Transport()
    connections = Connections(transport)
    assert connections.find_pool(POLICY, ORDERS).transport is transport
    assert connections.find_pool(POLICY, SECURE).transport is transport
    await connections.aclose()
    assert transport.closed == 1


# Ports of 127.0.0.1 on which nothing listens: a connection is refused, its pool stays.
REFUSING = [ServiceInstance("orders", "127.0.0.1", port) for port in (7, 9)]


def open_pools(client: AsyncServiceClient) -> set[str]:
    stats = client.stats("orders")
    assert stats is not None
    return set(stats.connection_pools)


async def test_a_departed_instance_loses_its_connections_without_another_call() -> None:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    for instance in REFUSING:
        await registry.register(instance)
    policy = ServicePolicy(attempts=2, backoff_seconds=0)
    async with AsyncServiceClient(
        registry, connection_layer="httpx", default_policy=policy
    ) as client:
        assert client.stats("orders") is None
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")
        assert open_pools(client) == {instance.base_url for instance in REFUSING}
        await registry.deregister(REFUSING[0])
        for _ in range(200):
            if len(open_pools(client)) == 1:
                break
            await asyncio.sleep(0)
        assert open_pools(client) == {REFUSING[1].base_url}


async def test_a_new_certificate_means_new_connections() -> None:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    await registry.register(REFUSING[0])
    async with AsyncServiceClient(registry, connection_layer="httpx") as client:
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")
        client.apply_policies(parse_policies({"default": {"attempts": 2}}))
        assert open_pools(client) == {REFUSING[0].base_url}
        client.apply_policies(parse_policies({"default": {"max_connections_per_instance": 5}}))
        assert open_pools(client) == set()


def test_tls_is_as_the_policy_says() -> None:
    assert make_tls_context(TlsConfig()).verify_mode is ssl.CERT_REQUIRED
    unverified = make_tls_context(TlsConfig(verify=False))
    assert (unverified.verify_mode, unverified.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(OSError, match="No such file"):
        make_tls_context(TlsConfig(ca_file="/nowhere.pem"))
    with pytest.raises(OSError, match="No such file"):
        make_tls_context(TlsConfig(certificate_file="/nowhere.pem"))


async def test_instances_share_the_context_of_their_tls_settings(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[TlsConfig] = []

    def make(tls: TlsConfig) -> ssl.SSLContext:
        made.append(tls)
        return make_tls_context(tls)

    monkeypatch.setattr("microservice_client.http.connections.make_tls_context", make)
    for port in (443, 8443):
        instance = ServiceInstance("orders", "10.0.0.3", port, metadata={"secure": "true"})
        connections.find_pool(POLICY, instance)
    assert made == [TlsConfig()]


async def test_the_limits_are_the_policies() -> None:
    connected = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected, most
        connected += 1
        most = max(most, connected)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        connected -= 1  # before the client can see the end, and connect again
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    policy = ServicePolicy(max_connections_per_instance=2)
    transport = make_httpx_pool(policy, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with server, httpx.AsyncClient(transport=transport) as client:
        responses = await asyncio.gather(*(client.get(url) for _ in range(8)))
    assert [response.text for response in responses] == ["ok"] * 8
    assert most == 2


@pytest.mark.parametrize(
    "instance",
    [
        ORDERS,
        SECURE,
        ServiceInstance("orders", "10.0.0.1", 8443, metadata={"secure": "true"}),
        ServiceInstance("orders", "::1", 8080),
        ServiceInstance("orders", "orders.svc", 80),
        ServiceInstance("orders", "bücher.example", 80),
    ],
)
@pytest.mark.parametrize("path", ["/", "/a%20b?q=%C3%BC&r", "/v1/orders/7", "/%2F?a=b#c"])
def test_the_address_is_replaced_as_httpx_itself_would(
    instance: ServiceInstance, path: str
) -> None:
    request = httpx.Request("GET", f"http://orders{path}")
    sent = address_request(request, instance, POLICY, 1.0)
    scheme = "https" if instance.secure else "http"
    expected = request.url.copy_with(scheme=scheme, host=instance.ip, port=instance.port)
    assert sent.url == expected
    assert (sent.url.raw_scheme, sent.url.raw_host, sent.url.port, sent.url.raw_path) == (
        expected.raw_scheme,
        expected.raw_host,
        expected.port,
        expected.raw_path,
    )
    assert sent.headers["host"] == expected.netloc.decode("ascii")
    assert str(request.url) == f"http://orders{path}"


def test_the_name_in_the_certificate_may_be_another() -> None:
    policy = ServicePolicy(tls=TlsConfig(server_name="orders.internal"))
    request = httpx.Request("GET", "http://orders/", headers={"grpc-timeout": "9H"})
    sent = address_request(request, SECURE, policy, 1.5)
    assert sent.extensions["sni_hostname"] == "orders.internal"
    assert sent.headers["grpc-timeout"] == "1500m"
    assert "sni_hostname" not in address_request(request, ORDERS, policy, 1.0).extensions


def test_timeouts_are_those_of_the_policy_and_of_the_caller() -> None:
    request = httpx.Request("GET", "http://orders/")
    assert address_request(request, ORDERS, POLICY, 1.0).extensions["timeout"] == {
        "connect": 1.0,
        "pool": 5.0,
        "read": 5.0,
        "write": 5.0,
    }
    request.extensions["timeout"] = {"connect": 0.5, "read": 30.0}
    timeout = address_request(request, ORDERS, POLICY, 1.0).extensions["timeout"]
    assert (timeout["connect"], timeout["read"]) == (0.5, 30.0)


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("orders", "/v1/orders/7"),
        ("orders", "v1/orders/7/"),
        ("orders", ""),
        ("orders", "/"),
        ("orders", "/a/../b"),
        ("orders", "/a/./b"),
        ("orders", "/a//b"),
        ("orders", "//evil.example/b"),
        ("orders", "/a?b=c&d"),
        ("orders", "/a#b"),
        ("orders", "/ü/%20 x"),
        ("orders", "/..a/.b"),
        ("Orders_1", "/v1"),
        ("orders.v1", "/v1"),
        ("Orders@v1:订单", "/v1"),
    ],
)
def test_a_services_url_is_what_httpx_would_make_of_it(service: str, path: str) -> None:
    host = "service" if "@" in service else service
    expected = httpx.URL(f"http://{host}/{path.lstrip('/')}")
    url = service_url(service, path)
    assert (url, url.host, url.raw_path, url.query, url.fragment) == (
        expected,
        expected.host,
        expected.raw_path,
        expected.query,
        expected.fragment,
    )


@given(st.text(st.sampled_from("abc/.~_-%?#: é"), max_size=12))
def test_any_path_makes_the_url_that_httpx_would_make(path: str) -> None:
    try:
        expected = httpx.URL(f"http://orders/{path.lstrip('/')}")
    except httpx.InvalidURL:
        with pytest.raises(httpx.InvalidURL):
            service_url("orders", path)
        return
    url = service_url("orders", path)
    assert (str(url), url.raw_path) == (str(expected), expected.raw_path)


def test_this_httpx_has_the_private_parts() -> None:
    assert urls.REUSES_PARSED_URLS


@given(
    st.text(st.sampled_from("abc/.~_-"), max_size=12),
    st.sampled_from(["http", "https"]),
    st.sampled_from(["10.0.0.1", "010.0.0.1", "::1", "orders.svc", "bücher.example"]),
    st.sampled_from([80, 443, 8080]),
)
def test_without_the_private_parts_of_httpx_the_urls_are_the_same(
    path: str, scheme: str, host: str, port: int
) -> None:
    def build() -> tuple[str, ...]:
        service = service_url("orders", path)
        try:
            instance = replace_address(service, scheme, host, port)
        except httpx.InvalidURL:
            return (str(service), "invalid")
        return (str(service), str(instance), instance.netloc.decode(), str(instance.raw_path))

    private = build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urls, "REUSES_PARSED_URLS", False)
        assert build() == private
