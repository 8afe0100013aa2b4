import httpx
import pytest

from lane_router import LaneUnavailableError, lane_scope
from microservice_client import AsyncServiceClient
from microservice_client.testing import FakeMesh
from microservice_kit.calls.lanes import create_lane_parts

BASE, DEV = "10.0.0.1:80", "10.0.0.2:80"


async def mesh_with_lane() -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", BASE, lambda _: httpx.Response(200))
    await mesh.start("orders", DEV, lambda _: httpx.Response(200), lane="dev")
    return mesh


async def test_a_call_stays_in_its_lane_and_hands_it_on() -> None:
    mesh = await mesh_with_lane()
    filters, interceptors = create_lane_parts("permissive")
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, filters=filters, interceptors=interceptors
    ) as client:
        for lane in ("dev", None, "other"):
            with lane_scope(lane):
                await client.get("orders", "/")
    assert mesh.request_counts == {DEV: 1, BASE: 2}
    assert [request.headers.get("x-lane") for request in mesh.requests] == ["dev", None, "other"]


async def test_a_strict_lane_without_instances_is_refused() -> None:
    mesh = await mesh_with_lane()
    filters, interceptors = create_lane_parts("strict")
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, filters=filters, interceptors=interceptors
    ) as client:
        with lane_scope("other"), pytest.raises(LaneUnavailableError):
            await client.get("orders", "/")
    assert mesh.request_counts.total() == 0
