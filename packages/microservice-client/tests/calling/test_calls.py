import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    CallTimeoutError,
    NoInstanceCallError,
    ServiceCallError,
    ServicePolicy,
    parse_policies,
)
from microservice_client.testing import FakeMesh
from microservice_core import (
    InMemoryServiceRegistry,
    MicroserviceError,
    NoInstanceAvailableError,
    ServiceInstance,
)

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
QUICK = ServicePolicy(backoff_seconds=0, breaker_failures=2, balancer="round_robin")


def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"path": request.url.path, "host": request.headers["host"]})


def unavailable(_: httpx.Request) -> httpx.Response:
    return httpx.Response(503, text="busy")


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    for address in (A, B, C):
        await mesh.start("orders", address, ok)
    return mesh


@pytest.fixture
async def client(mesh: FakeMesh) -> AsyncIterator[AsyncServiceClient]:
    async with AsyncServiceClient(mesh.registry, transport=mesh, default_policy=QUICK) as client:
        yield client
    assert mesh.open_bodies == 0
    assert mesh.closed


async def test_calls_go_to_each_instance_in_turn(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for _ in range(6):
        response = await client.get("orders", "/v1/orders/7")
        assert response.status_code == 200
    assert mesh.request_counts == {A: 2, B: 2, C: 2}


async def test_the_instance_sees_its_own_address_and_the_callers_path(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    response = await client.get("orders", "v1/orders/7", params={"full": True})
    (request,) = mesh.requests
    assert response.json() == {"path": "/v1/orders/7", "host": str(request.url.netloc, "ascii")}
    assert request.url.query == b"full=true"
    assert str(response.request.url) == "http://orders/v1/orders/7?full=true"


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])
async def test_every_method_of_httpx_is_there(
    client: AsyncServiceClient, mesh: FakeMesh, method: str
) -> None:
    response = await getattr(client, method)("orders", "/", headers={"x-a": "1"})
    assert response.status_code == 200
    assert mesh.requests[0].method == method.upper()
    assert mesh.requests[0].headers["x-a"] == "1"


@pytest.mark.parametrize("fault", ["refuse", "reset"])
async def test_an_instance_that_fails_is_left_for_another(
    client: AsyncServiceClient, mesh: FakeMesh, fault: str
) -> None:
    mesh.fail(A, fault)  # type: ignore[arg-type]
    mesh.fail(B, fault)  # type: ignore[arg-type]
    response = await client.get("orders", "/")
    assert response.status_code == 200
    assert mesh.request_counts[C] == 1


async def test_a_body_is_sent_again_to_the_next_instance(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    mesh.fail(A, "refuse")
    mesh.fail(B, "refuse")
    await client.put("orders", "/", json={"a": 1})
    assert [await request.aread() for request in mesh.requests] == [b'{"a":1}'] * len(mesh.requests)


async def test_a_status_that_says_try_elsewhere_is_left_for_another(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B):
        await mesh.start("orders", address, unavailable)
    for _ in range(3):
        assert (await client.get("orders", "/")).status_code == 200


async def test_the_last_response_comes_out_when_everyone_says_no(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        await mesh.start("orders", address, unavailable)
    response = await client.get("orders", "/")
    assert (response.status_code, response.text) == (503, "busy")
    assert mesh.request_counts == {A: 1, B: 1, C: 1}


async def test_a_post_that_may_have_been_done_is_not_sent_twice(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        mesh.fail(address, "reset")
    with pytest.raises(CallFailedError) as caught:
        await client.post("orders", "/", json={})
    assert mesh.request_counts.total() == 1
    (attempt,) = caught.value.attempts
    assert attempt.outcome == "ReadError"


async def test_a_post_that_was_never_sent_may_go_elsewhere(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    mesh.fail(A, "refuse")
    mesh.fail(B, "refuse")
    assert (await client.post("orders", "/", json={})).status_code == 200


async def test_a_post_with_an_idempotency_key_may_be_sent_twice(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    mesh.fail(A, "reset")
    mesh.fail(B, "reset")
    response = await client.post("orders", "/", headers={"Idempotency-Key": "k1"})
    assert response.status_code == 200


async def test_the_only_instance_is_tried_again() -> None:
    mesh = FakeMesh()
    codes = iter([503, 200])
    await mesh.start("orders", A, lambda _: httpx.Response(next(codes)))
    async with AsyncServiceClient(mesh.registry, transport=mesh, default_policy=QUICK) as client:
        assert (await client.get("orders", "/")).status_code == 200
    assert mesh.open_bodies == 0


async def test_when_everyone_failed_the_error_tells_who_and_how(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        mesh.fail(address, "refuse")
    with pytest.raises(CallFailedError) as caught:
        await client.get("orders", "/")
    assert caught.value.service == "orders"
    assert {attempt.instance_id for attempt in caught.value.attempts} == {A, B, C}
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert f"{A} ConnectError after" in str(caught.value)


async def test_an_instance_that_keeps_failing_is_left_alone(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    mesh.fail(A, "refuse")
    for _ in range(30):
        assert (await client.get("orders", "/")).status_code == 200
    assert mesh.request_counts[A] == 2
    assert client.breaker_states("orders")[A] == "open"


async def test_the_breaker_counts_statuses_of_500_and_above(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        await mesh.start("orders", address, lambda _: httpx.Response(500))
    for _ in range(6):
        assert (await client.get("orders", "/")).status_code == 500
    assert set(client.breaker_states("orders").values()) == {"open"}
    with pytest.raises(NoInstanceCallError, match=r"the circuits of .* are open"):
        await client.get("orders", "/")


async def test_client_errors_are_no_failures(client: AsyncServiceClient, mesh: FakeMesh) -> None:
    for address in (A, B, C):
        await mesh.start("orders", address, lambda _: httpx.Response(404))
    for _ in range(9):
        assert (await client.get("orders", "/")).status_code == 404
    assert set(client.breaker_states("orders").values()) == {"closed"}


async def test_an_unknown_service_says_that_nobody_is_registered(
    client: AsyncServiceClient,
) -> None:
    with pytest.raises(NoInstanceCallError, match="no instances registered") as caught:
        await client.get("stock", "/")
    assert isinstance(caught.value, NoInstanceAvailableError)
    assert isinstance(caught.value, MicroserviceError)
    assert isinstance(caught.value, httpx.TransportError)


async def test_the_unhealthy_and_the_disabled_are_not_asked(mesh: FakeMesh) -> None:
    await mesh.registry.register(ServiceInstance("orders", "10.0.0.1", 80, healthy=False))
    await mesh.registry.register(ServiceInstance("orders", "10.0.0.2", 80, enabled=False))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        for _ in range(4):
            await client.get("orders", "/")
    assert mesh.request_counts == {C: 4}


async def test_nobody_left_by_the_filters_says_so(mesh: FakeMesh) -> None:
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, filters=[lambda instances, context: []]
    ) as client:
        with pytest.raises(
            NoInstanceCallError, match="none of 3 instances passes the filter <lambda>"
        ):
            await client.get("orders", "/")


async def test_instances_of_weight_0_are_drained() -> None:
    registry = InMemoryServiceRegistry()
    await registry.register(ServiceInstance("orders", "10.0.0.1", 80, weight=0))
    async with AsyncServiceClient(registry, transport=FakeMesh()) as client:
        with pytest.raises(
            NoInstanceCallError, match=r"all remaining instances \(1\) have weight 0"
        ):
            await client.get("orders", "/")


async def test_a_filter_sees_the_call_and_narrows_it(mesh: FakeMesh) -> None:
    seen: list[tuple[str, str]] = []

    def only_a(instances, context):  # type: ignore[no-untyped-def]
        seen.append((context.service_name, context.headers["x-tenant"]))
        return [one for one in instances if one.instance_id == A]

    async with AsyncServiceClient(mesh.registry, transport=mesh, filters=[only_a]) as client:
        for _ in range(3):
            await client.get("orders", "/", headers={"x-tenant": "t1"})
    assert mesh.request_counts == {A: 3}
    assert seen == [("orders", "t1")] * 3


async def test_an_interceptor_may_change_the_request(mesh: FakeMesh) -> None:
    def sign(request: httpx.Request) -> None:
        request.headers["x-signed"] = "yes"

    async with AsyncServiceClient(mesh.registry, transport=mesh, interceptors=[sign]) as client:
        await client.get("orders", "/")
    assert mesh.requests[0].headers["x-signed"] == "yes"


async def test_new_instances_are_called_and_departed_ones_are_not(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    await client.get("orders", "/")
    await mesh.stop(A)
    await mesh.stop(B)
    await mesh.start("orders", "10.0.0.4:80", ok)
    for _ in range(3):
        await asyncio.sleep(0)
    mesh.request_counts.clear()
    for _ in range(4):
        assert (await client.get("orders", "/")).status_code == 200
    assert mesh.request_counts == {C: 2, "10.0.0.4:80": 2}
    assert A not in client.breaker_states("orders")


async def test_an_attempt_that_takes_too_long_goes_elsewhere(mesh: FakeMesh) -> None:
    mesh.fail(A, "hang")
    mesh.fail(B, "hang")
    policy = ServicePolicy(attempt_timeout_seconds=0.2, backoff_seconds=0)
    async with AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy) as client:
        assert (await client.get("orders", "/")).status_code == 200


async def test_the_time_for_the_whole_call_ends_it(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        mesh.fail(address, "hang")
    with pytest.raises(CallTimeoutError, match=r"no response within 0\.05 s") as caught:
        await client.get("orders", "/", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, httpx.TimeoutException)


async def test_a_cancelled_call_counts_against_nobody_and_leaves_nothing_behind(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    for address in (A, B, C):
        mesh.fail(address, "hang")
    for _ in range(10):
        task = asyncio.create_task(client.get("orders", "/"))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert set(client.breaker_states("orders").values()) == {"closed"}


async def test_a_stream_keeps_its_instance_busy_until_it_is_closed(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    async with client.stream("GET", "orders", "/") as response:
        assert mesh.open_bodies == 1
        assert b"".join([chunk async for chunk in response.aiter_bytes()])
    assert mesh.open_bodies == 0


async def test_a_body_that_breaks_off_is_an_error_and_is_closed(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx.ReadError("connection reset by peer")

    for address in (A, B, C):
        await mesh.start("orders", address, lambda _: httpx.Response(200, stream=Broken()))
    with pytest.raises(httpx.ReadError):
        await client.get("orders", "/")
    assert mesh.open_bodies == 0


async def test_a_body_that_was_begun_is_not_sent_again(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    for address in (A, B, C):
        mesh.fail(address, "reset")
    with pytest.raises(CallFailedError):
        await client.call("orders", httpx.Request("PUT", "http://anything/", content=body()))
    assert mesh.request_counts.total() == 1


async def test_a_body_that_was_not_begun_goes_elsewhere(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"all "
        yield b"of it"

    mesh.fail(A, "refuse")
    mesh.fail(B, "refuse")
    response = await client.post("orders", "/", content=body())
    assert response.status_code == 200
    assert mesh.requests[-1].content == b"all of it"


async def test_an_error_of_the_transport_itself_comes_out_as_it_is(
    client: AsyncServiceClient, mesh: FakeMesh
) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError("a bug of the transport")

    for address in (A, B, C):
        await mesh.start("orders", address, broken)
    with pytest.raises(ZeroDivisionError):
        await client.get("orders", "/")


async def test_a_secure_instance_is_called_over_https() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:8443", ok, secure="true")
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        await client.get("orders", "/")
    assert mesh.requests[0].url.scheme == "https"


async def test_a_service_name_no_host_could_carry_still_works() -> None:
    mesh = FakeMesh()
    await mesh.start("Orders@v1:订单", A, ok)
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        assert (await client.get("Orders@v1:订单", "/")).status_code == 200


async def test_policies_are_per_service() -> None:
    mesh = FakeMesh()
    for service in ("orders", "stock"):
        await mesh.start(service, A if service == "orders" else B, unavailable)
    once = ServicePolicy(attempts=1)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, policies={"stock": once}, default_policy=QUICK
    ) as client:
        await client.get("stock", "/")
        await client.get("orders", "/")
    assert mesh.request_counts == {
        A: 2,
        B: 1,
    }  # the breaker of `orders` opens at the second failure


async def test_closing_twice_is_fine_and_a_closed_client_says_so(mesh: FakeMesh) -> None:
    client = AsyncServiceClient(mesh.registry, transport=mesh)
    with pytest.raises(MicroserviceError, match="not open"):
        await client.get("orders", "/")
    async with client:
        await client.get("orders", "/")
    await client.aclose()
    with pytest.raises(MicroserviceError, match="not open"):
        await client.get("orders", "/")


def test_a_policy_whose_attempt_outlasts_the_call_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be above total_timeout_seconds"):
        ServicePolicy(attempt_timeout_seconds=11)
    with pytest.raises(ValueError, match=r"\(5 > 3\)"):
        ServicePolicy(attempt_timeout_seconds=5, total_timeout_seconds=3)


def test_the_default_time_of_an_attempt_fits_into_that_of_the_call() -> None:
    assert ServicePolicy(attempts=3, total_timeout_seconds=2).attempt_timeout_seconds == 2
    assert ServicePolicy(total_timeout_seconds=60).attempt_timeout_seconds == 5
    services = {"orders": {"total_timeout_seconds": 3}}
    policy = parse_policies({"default": {"attempts": 2}, "services": services}).get("orders")
    assert (policy.attempts, policy.attempt_timeout_seconds) == (2, 3)
    assert ServicePolicy.model_validate(policy.model_dump()) == policy


def test_every_error_hangs_on_one_root() -> None:
    for error in (CallFailedError, CallTimeoutError, NoInstanceCallError):
        assert issubclass(error, ServiceCallError)


async def test_a_slow_instance_gets_little_of_the_traffic_by_default() -> None:
    mesh = FakeMesh()
    for address in (A, B, C):
        await mesh.start("orders", address, ok)
    clock = 0.0

    def now() -> float:
        return clock

    def slow(request: httpx.Request) -> httpx.Response:
        nonlocal clock
        clock += 1.0
        return ok(request)

    def quick(request: httpx.Request) -> httpx.Response:
        nonlocal clock
        clock += 0.01
        return ok(request)

    await mesh.start("orders", A, slow)
    for address in (B, C):
        await mesh.start("orders", address, quick)
    async with AsyncServiceClient(mesh.registry, transport=mesh, clock=now) as client:
        for _ in range(60):
            await client.get("orders", "/")
    assert 1 <= mesh.request_counts[A] <= 6
    assert mesh.request_counts[B] >= 10
    assert mesh.request_counts[C] >= 10


def test_a_policy_with_an_unknown_balancer_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"nonsense.*round_robin"):
        ServicePolicy(balancer="nonsense")


async def test_an_open_circuit_lets_a_trial_through_when_its_time_has_come() -> None:
    mesh = FakeMesh()
    for address in (A, B, C):
        await mesh.start("orders", address, ok)
    clock = 0.0
    mesh.fail(A, "refuse")
    policy = ServicePolicy(backoff_seconds=0, breaker_failures=1, breaker_open_seconds=1000)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, clock=lambda: clock
    ) as client:
        for _ in range(30):
            await client.get("orders", "/")
        assert mesh.request_counts[A] == 1
        mesh.heal(A)
        clock += 1000
        for _ in range(30):
            await client.get("orders", "/")
        assert mesh.request_counts[A] > 1
        assert client.breaker_states("orders")[A] == "closed"
