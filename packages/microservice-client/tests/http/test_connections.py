import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import AsyncServiceClient, ServicePolicy, TlsConfig, policies_of
from microservice_client.http.cancellation import CancelSafeTransport
from microservice_client.http.connections import Connections, Pool, httpx_pool
from microservice_client.http.instance_requests import addressed
from microservice_client.http.urls import service_url
from microservice_core import InMemoryServiceRegistry, ServiceInstance

ORDERS = ServiceInstance("orders", "10.0.0.1", 80)
OTHER = ServiceInstance("orders", "10.0.0.2", 80)
SECURE = ServiceInstance("orders", "10.0.0.3", 443, metadata={"secure": "true"})
POLICY = ServicePolicy()


class Transport(httpx.AsyncBaseTransport):
    """Counts what becomes of it."""

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
    first = connections.pool(POLICY, ORDERS)
    assert connections.pool(POLICY, ORDERS) is first
    assert connections.pool(POLICY, OTHER) is not first
    assert connections.open_to == {
        ("orders", "http://10.0.0.1:80"),
        ("orders", "http://10.0.0.2:80"),
    }


async def test_connections_of_an_instance_that_is_gone_are_closed(connections: Connections) -> None:
    gone = connections.pool(POLICY, ORDERS)
    connections.pool(POLICY, OTHER)
    connections.keep_only("stock", ())
    assert len(connections.open_to) == 2
    connections.keep_only("orders", {OTHER.base_url})
    assert connections.open_to == {("orders", OTHER.base_url)}
    assert gone.retired


def test_a_pool_is_closed_when_its_last_call_is_over() -> None:
    closed: list[Pool] = []
    pool = Pool(Transport(), closed.append)
    pool.enter()
    pool.enter()
    pool.retire()
    pool.leave()
    assert closed == []
    pool.leave()
    pool.retire()
    assert closed == [pool]
    idle = Pool(Transport(), closed.append)
    idle.retire()
    assert closed == [pool, idle]


async def test_a_transport_that_was_handed_in_carries_everything_and_is_closed() -> None:
    transport = Transport()
    connections = Connections(transport)
    assert connections.pool(POLICY, ORDERS).transport is transport
    assert connections.pool(POLICY, SECURE).transport is transport
    await connections.aclose()
    assert transport.closed == 1


async def test_a_departed_instance_loses_its_connections_without_another_call() -> None:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    for instance in (ORDERS, OTHER):
        await registry.register(instance)
    async with AsyncServiceClient(registry, connection_layer="httpx") as client:
        await client.warm_up(["orders"])
        engine = client._engine
        assert engine is not None
        for instance in (ORDERS, OTHER):
            engine._connections.pool(POLICY, instance)
        await registry.deregister(ORDERS)
        for _ in range(200):
            if len(engine._connections.open_to) == 1:
                break
            await asyncio.sleep(0)
        assert engine._connections.open_to == {("orders", OTHER.base_url)}


async def test_a_new_certificate_means_new_connections() -> None:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    closed = ServiceInstance("orders", "127.0.0.1", 9)
    await registry.register(closed)
    async with AsyncServiceClient(registry, connection_layer="httpx") as client:
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")
        engine = client._engine
        assert engine is not None
        before = engine._connections.pool(POLICY, closed)
        client.apply_policies(policies_of({"default": {"attempts": 2}}))
        assert engine._connections.pool(POLICY, closed) is before
        client.apply_policies(policies_of({"default": {"max_connections_per_instance": 5}}))
        assert engine._connections.pool(POLICY, closed) is not before


async def test_tls_is_as_the_policy_says(connections: Connections) -> None:
    checked = connections._context(TlsConfig())
    assert connections._context(TlsConfig()) is checked
    assert checked.verify_mode is ssl.CERT_REQUIRED
    open_to_all = connections._context(TlsConfig(verify=False))
    assert (open_to_all.verify_mode, open_to_all.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(OSError, match="No such file"):
        connections._context(TlsConfig(ca_file="/nowhere.pem"))
    with pytest.raises(OSError, match="No such file"):
        connections._context(TlsConfig(certificate_file="/nowhere.pem"))
    assert connections.pool(POLICY, SECURE).transport is not None


async def test_the_limits_are_the_policies() -> None:
    policy = ServicePolicy(max_connections_per_instance=7, idle_connection_seconds=3)
    made = httpx_pool(policy, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert isinstance(made, CancelSafeTransport)
    assert made._transport._pool._max_connections == 7
    await made.aclose()


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
    got = addressed(request, instance, POLICY, 1.0)
    scheme = "https" if instance.secure else "http"
    expected = request.url.copy_with(scheme=scheme, host=instance.ip, port=instance.port)
    assert got.url == expected
    assert (got.url.raw_scheme, got.url.raw_host, got.url.port, got.url.raw_path) == (
        expected.raw_scheme,
        expected.raw_host,
        expected.port,
        expected.raw_path,
    )
    assert got.headers["host"] == expected.netloc.decode("ascii")
    assert str(request.url) == f"http://orders{path}"


def test_the_name_in_the_certificate_may_be_another() -> None:
    policy = ServicePolicy(tls=TlsConfig(server_name="orders.internal"))
    request = httpx.Request("GET", "http://orders/", headers={"grpc-timeout": "9H"})
    got = addressed(request, SECURE, policy, 1.5)
    assert got.extensions["sni_hostname"] == "orders.internal"
    assert got.headers["grpc-timeout"] == "1500m"
    assert "sni_hostname" not in addressed(request, ORDERS, policy, 1.0).extensions


def test_timeouts_are_those_of_the_policy_and_of_the_caller() -> None:
    request = httpx.Request("GET", "http://orders/")
    assert addressed(request, ORDERS, POLICY, 1.0).extensions["timeout"] == {
        "connect": 1.0,
        "pool": 1.0,
        "read": 5.0,
        "write": 5.0,
    }
    request.extensions["timeout"] = {"connect": 0.5, "read": 30.0}
    timeout = addressed(request, ORDERS, POLICY, 1.0).extensions["timeout"]
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
    got = service_url(service, path)
    assert (got, got.host, got.raw_path, got.query, got.fragment) == (
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
    got = service_url("orders", path)
    assert (str(got), got.raw_path) == (str(expected), expected.raw_path)
