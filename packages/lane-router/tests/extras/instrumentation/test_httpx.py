from collections.abc import Iterator

import httpx
import pytest

from lane_router import instrument, lane_scope, uninstrument
from microservice_core import InvalidValueError


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    uninstrument()


class Network(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Responds to everything, redirects where the test says, and records the lane of each request."""

    def __init__(self, redirects: dict[str, str] | None = None) -> None:
        self.redirects = redirects or {}
        self.requests: list[tuple[str, str | None]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.url.host, request.headers.get("x-lane")))
        target = self.redirects.get(request.url.host)
        return httpx.Response(307, headers={"location": target}) if target else httpx.Response(204)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def test_the_lane_is_sent_to_the_mesh_and_to_no_other_host() -> None:
    assert "httpx" in instrument(mesh_hosts=["orders"])
    network = Network()
    with httpx.Client(transport=network) as client, lane_scope("dev"):
        client.get("http://orders/")
        client.get("http://foreign.test/")
    assert network.requests == [("orders", "dev"), ("foreign.test", None)]


async def test_an_async_client_does_the_same() -> None:
    instrument(mesh_hosts=["orders"])
    network = Network()
    async with httpx.AsyncClient(transport=network) as client:
        with lane_scope("dev"):
            await client.get("http://orders/")
        await client.get("http://orders/")
    assert network.requests == [("orders", "dev"), ("orders", None)]


def test_a_redirect_out_of_the_mesh_takes_no_lane_along() -> None:
    instrument(mesh_hosts=["orders", "users"])
    network = Network({"orders": "http://users/", "users": "http://foreign.test/"})
    with httpx.Client(transport=network, follow_redirects=True) as client, lane_scope("dev"):
        client.get("http://orders/")
    assert network.requests == [("orders", "dev"), ("users", "dev"), ("foreign.test", None)]


def test_a_header_set_by_the_caller_stays_inside_the_mesh_and_never_leaves_it() -> None:
    instrument(mesh_hosts=["orders"])
    network = Network()
    with httpx.Client(transport=network, headers={"X-Lane": "mine"}) as client, lane_scope("dev"):
        client.get("http://orders/")
        client.get("http://foreign.test/")
    assert network.requests == [("orders", "mine"), ("foreign.test", None)]


def test_a_client_made_before_and_shared_by_lanes_sends_each_its_own() -> None:
    network = Network()
    with httpx.Client(transport=network) as client:
        instrument(mesh_hosts=["orders"])
        for lane in ("dev", "test", "prod"):
            with lane_scope(lane):
                client.get("http://orders/")
    assert [lane for _, lane in network.requests] == ["dev", "test", None]


def test_instrumenting_again_replaces_the_hosts_and_undoing_it_is_complete() -> None:
    before = httpx.Client._transport_for_url
    instrument(mesh_hosts=["orders"])
    instrument(mesh_hosts=["users"])
    network = Network()
    with httpx.Client(transport=network) as client, lane_scope("dev"):
        client.get("http://orders/")
        client.get("http://users/")
        uninstrument()
        uninstrument()
        client.get("http://users/")
    assert network.requests == [("orders", None), ("users", "dev"), ("users", None)]
    assert httpx.Client._transport_for_url is before


def test_a_wrong_host_changes_nothing() -> None:
    before = httpx.Client._transport_for_url
    with pytest.raises(InvalidValueError, match="mesh_hosts must be"):
        instrument(mesh_hosts=["http://orders"])
    assert httpx.Client._transport_for_url is before
