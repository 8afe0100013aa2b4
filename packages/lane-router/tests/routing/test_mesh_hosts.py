import pytest

from lane_router import LaneRouter, MeshHosts
from microservice_core import InvalidValueError

HOSTS = MeshHosts(["orders", "Users", "127.0.0.1", "::1", ".internal", "api.example.com"])


@pytest.mark.parametrize(
    "host",
    [
        "orders",
        "ORDERS",
        "users",
        "orders.shop.svc",
        "orders.shop.svc.cluster.local",
        "127.0.0.1",
        "::1",
        "a.internal",
        "api.example.com",
    ],
)
def test_a_host_of_the_mesh_is_recognised(host: str) -> None:
    assert host in HOSTS


@pytest.mark.parametrize(
    "host",
    [
        "",
        "payments",
        "orders.com",
        "orders.shop",
        "orders.shop.svc.example.com",
        "orders.a.b.svc",
        "evil-orders",
        "internal",
        "notinternal",
        "example.com",
        "x.api.example.com",
        "10.0.0.1",
        7,
    ],
)
def test_a_foreign_host_is_not_in_the_mesh(host: object) -> None:
    assert host not in HOSTS


def test_one_name_may_stand_alone() -> None:
    assert "orders" in MeshHosts("orders")
    assert "o" not in MeshHosts("orders")


@pytest.mark.parametrize("entry", ["", "http://orders", "a b", "orders:80"])
def test_what_is_no_host_name_is_refused(entry: str) -> None:
    with pytest.raises(InvalidValueError, match="mesh_hosts must be a host name"):
        MeshHosts([entry])


def test_a_published_name_belongs_to_the_mesh_in_every_spelling() -> None:
    routes = LaneRouter.from_document({"services": {"orders": {"lanes": ["dev"], "port": 80}}})
    published = ["orders-dev", "ORDERS-DEV", "orders-dev.shop.svc", "orders"]
    assert all(map(routes.is_mesh_host, published))
    assert not any(map(routes.is_mesh_host, ["orders-dev.com", "payments", "10.0.0.1", ""]))
    assert not LaneRouter().is_mesh_host("orders")
    assert LaneRouter().lanes("orders") == routes.lanes("absent") == ()
