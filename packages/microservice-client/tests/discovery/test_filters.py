import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    NoInstanceCallError,
    ServicePolicy,
    match_labels,
    match_version,
)
from microservice_client.calling.call import Call
from microservice_client.testing import FakeMesh
from microservice_core import InvalidValueError, RequestContext, ServiceInstance

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


class AnyCall:
    service_name = "orders"
    headers: dict[str, str] = {}  # noqa: RUF012 - stays empty


CONTEXT: RequestContext = AnyCall()


def make_versions(*versions: str) -> list[ServiceInstance]:
    return [
        ServiceInstance("orders", f"10.0.0.{number}", 80, metadata={"version": version})
        for number, version in enumerate(versions, start=1)
    ]


@pytest.mark.parametrize(
    ("specifier", "admitted"),
    [
        (">=1.2,<2", ["1.2", "1.9.9", "v1.2.0"]),
        ("~=1.2", ["1.2", "1.9.9", "v1.2.0"]),
        ("==1.2", ["1.2", "v1.2.0"]),
        ("==2.*", ["2.0"]),
        ("!=1.2", ["1.9.9", "2.0"]),
        (">=2.1.dev0", ["2.1rc1"]),
        ("", ["1.2", "1.9.9", "2.0", "2.1rc1", "v1.2.0", "", "latest"]),
    ],
)
def test_a_version_is_in_a_range_as_pep_440_has_it(specifier: str, admitted: list[str]) -> None:
    instances = make_versions("1.2", "1.9.9", "2.0", "2.1rc1", "v1.2.0", "", "latest")
    kept = match_version(specifier)(instances, CONTEXT)
    assert [instance.version for instance in kept] == admitted


def test_a_range_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"version must be a PEP 440 range .*'newest'"):
        match_version("newest")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), st.integers(0, 9))
def test_a_range_splits_all_versions_in_two(numbers: list[tuple[int, int]], at: int) -> None:
    instances = make_versions(*(f"{major}.{minor}" for major, minor in numbers))
    below = match_version(f"<{at}")(instances, CONTEXT)
    rest = match_version(f">={at}")(instances, CONTEXT)
    assert sorted([*below, *rest], key=instances.index) == instances
    assert all(instance.version < str(at) for instance in below)


def test_every_label_has_to_be_there() -> None:
    both = ServiceInstance("orders", "10.0.0.1", 80, metadata={"a": "1", "b": "2", "c": "3"})
    one = ServiceInstance("orders", "10.0.0.2", 80, metadata={"a": "1"})
    assert match_labels({"a": "1", "b": "2"})([both, one], CONTEXT) == [both]
    assert match_labels({})([both, one], CONTEXT) == [both, one]


async def start_mesh() -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", A, ok, version="1.0", region="eu")
    await mesh.start("orders", B, ok, version="2.0", region="eu")
    await mesh.start("orders", C, ok, version="2.1", region="us")
    return mesh


async def test_filters_per_client_service_call_and_policy_all_count() -> None:
    mesh = await start_mesh()
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        filters=[match_version(">=1")],
        service_filters={"orders": [match_version(">=2")]},
        policies={"orders": ServicePolicy(labels=(("region", "eu"),))},
    ) as client:
        for _ in range(3):
            await client.get("orders", "/")
        assert mesh.request_counts == {B: 3}
        with pytest.raises(
            NoInstanceCallError, match="none of 1 instances passes the filter filter_by_version"
        ):
            await client.get("orders", "/", filters=[match_version(">2")])


async def test_the_error_names_the_filter_that_left_nobody() -> None:
    mesh = await start_mesh()

    class Nobody:
        def __call__(
            self, instances: list[ServiceInstance], context: RequestContext
        ) -> list[ServiceInstance]:
            return []

    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        for filters, name in (
            ([Nobody()], "Nobody"),
            ([match_labels({"no": "such"})], "filter_by_labels"),
        ):
            with pytest.raises(
                NoInstanceCallError, match=f"none of 3 instances passes the filter {name}"
            ):
                await client.get("orders", "/", filters=filters)  # type: ignore[arg-type]
        with pytest.raises(NoInstanceCallError, match="the filter filter_by_version"):
            await client.get("orders", "/", policy=ServicePolicy(version=">=9"))


async def test_the_disabled_are_named_too() -> None:
    mesh = FakeMesh()
    await mesh.registry.register(ServiceInstance("orders", "10.0.0.1", 80, enabled=False))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(
            NoInstanceCallError, match="none of 1 instances passes the filter keep_enabled"
        ):
            await client.get("orders", "/")


async def test_one_call_may_ask_for_a_version_by_its_policy() -> None:
    mesh = await start_mesh()
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        for _ in range(4):
            await client.get("orders", "/", policy=ServicePolicy(version="<2"))
    assert mesh.request_counts == {A: 4}


def test_a_call_is_a_context_of_filters() -> None:
    assert {"service_name", "headers"} <= set(dir(Call))
