"""Bulkhead, limit, hedging, fallback, deadline, statuses, Retry-After, and policies that change."""

import asyncio
import gc
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    CallRejectedError,
    CallStatusError,
    CallTimeoutError,
    NoInstanceCallError,
    Policies,
    ResponseFormatError,
    ServiceCallError,
    ServicePolicy,
    parse_policies,
    watch_policies,
)
from microservice_client.testing import FakeMesh
from microservice_core import InMemoryConfigCenter, InvalidValueError, ServiceInstance
from microservice_core.testing import ManualClock
from microservice_governance import BulkheadConfig, LimitConfig, deadline
from microservice_lb import Balancer, OutlierConfig, OutlierEjection, RoundRobin

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text="ok")


def answering(status: int, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, headers=named)


class Gate:
    """An instance whose answers wait until it is opened."""

    def __init__(self) -> None:
        self.inside = 0
        self.opened = asyncio.Event()

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.inside += 1
        await self.opened.wait()
        self.inside -= 1
        return httpx.Response(200)


async def mesh_of(**handlers: Callable[..., object]) -> FakeMesh:
    mesh = FakeMesh()
    for name, handler in handlers.items():
        await mesh.start("orders", {"a": A, "b": B, "c": C}[name], handler)  # type: ignore[arg-type]
    return mesh


def client_of(
    mesh: FakeMesh, clock: Callable[[], float] = time.monotonic, **fields: object
) -> AsyncServiceClient:
    policy = ServicePolicy.model_validate(
        {"backoff_seconds": 0, "balancer": "round_robin", **fields}
    )
    return AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy, clock=clock)


async def until(accept: Callable[[], bool]) -> None:
    """Let other tasks run until it is so."""
    async with asyncio.timeout(10):
        while not accept():  # noqa: ASYNC110 - whatever it is that has to become true
            await asyncio.sleep(0)


async def settle(rounds: int = 10) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


# -- breaker and balancer


async def test_an_instance_whose_circuit_is_open_teaches_the_balancer_nothing() -> None:
    clock = ManualClock()
    mesh = await mesh_of(a=ok, b=ok)
    mesh.fail(A, "refuse")
    outliers: OutlierEjection[ServiceInstance] = OutlierEjection(
        RoundRobin(),
        config=OutlierConfig(consecutive_errors=2, max_ejection_percent=100),
        clock=clock,
    )
    policy = ServicePolicy(backoff_seconds=0, breaker_failures=1, breaker_open_seconds=5)
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        default_policy=policy,
        make_balancer=lambda name, policy: outliers,
        clock=clock,
    ) as client:
        for _ in range(10):  # one failure, and then refusals
            await client.get("orders", "/")
        assert (mesh.request_counts[A], outliers.ejected_ids) == (1, frozenset())
        clock.advance(5)
        for _ in range(2):
            await client.get("orders", "/")
        assert (mesh.request_counts[A], outliers.ejected_ids) == (2, frozenset({A}))
        assert outliers.active(A) == outliers.active(B) == 0


async def test_a_second_attempt_goes_to_an_instance_not_tried_yet() -> None:
    mesh = await mesh_of(a=ok, b=ok, c=ok)
    async with client_of(mesh, balancer="maglev", breaker_failures=99) as client:
        for user in range(10):
            mesh.request_counts.clear()
            await client.get("orders", "/", key=str(user))
            (own,) = mesh.request_counts
            mesh.fail(own, "refuse")
            await client.get("orders", "/", key=str(user))
            mesh.heal(own)
            assert mesh.request_counts[own] == 2
            assert mesh.request_counts.total() == 3


async def test_a_failing_answer_is_no_sign_of_a_fast_instance() -> None:
    mesh = await mesh_of(a=answering(500), b=ok)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=ServicePolicy(breaker_failures=1000)
    ) as client:
        for _ in range(100):
            await client.get("orders", "/")
    assert mesh.request_counts[A] < mesh.request_counts[B]


async def test_too_many_requests_opens_no_circuit() -> None:
    mesh = await mesh_of(a=answering(429))
    async with client_of(mesh, breaker_failures=1, attempts=1) as client:
        for _ in range(3):
            assert (await client.get("orders", "/")).status_code == 429
        assert client.breaker_states("orders") == {A: "closed"}


async def test_an_instance_too_slow_for_the_whole_call_counts_as_failing() -> None:
    mesh = await mesh_of(a=ok)
    mesh.fail(A, "hang")
    async with client_of(mesh, breaker_failures=2) as client:
        for _ in range(2):
            with pytest.raises(CallTimeoutError) as caught:
                await client.get("orders", "/", timeout=0.2)
            assert [one.outcome for one in caught.value.attempts] == ["TimeoutError"]
        assert client.breaker_states("orders") == {A: "open"}


async def test_a_body_that_stops_coming_counts_when_the_time_is_over_not_when_cancelled() -> None:
    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            await asyncio.Event().wait()

    mesh = await mesh_of(a=lambda _: httpx.Response(200, stream=Stalled()))
    async with client_of(mesh, breaker_failures=1) as client:
        call = asyncio.create_task(client.get("orders", "/"))
        await until(lambda: mesh.open_bodies == 1)
        await settle()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.breaker_states("orders") == {A: "closed"}
        with pytest.raises(CallTimeoutError):
            await client.get("orders", "/", timeout=0.2)
        assert client.breaker_states("orders") == {A: "open"}
    assert mesh.open_bodies == 0


async def test_a_body_that_is_not_encoded_as_it_says_is_told() -> None:
    answer = httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"plain")
    )
    mesh = await mesh_of(a=lambda _: answer)
    async with client_of(mesh) as client:
        with pytest.raises(ResponseFormatError, match="no body of content-encoding gzip"):
            await client.get("orders", "/")
    assert mesh.open_bodies == 0


async def test_a_body_that_breaks_off_counts_against_its_instance() -> None:
    mesh = await mesh_of(a=ok)
    mesh.fail(A, "break")
    async with client_of(mesh, breaker_failures=1) as client:
        with pytest.raises(ServiceCallError, match="body broke off"):
            await client.get("orders", "/")
        assert client.breaker_states("orders") == {A: "open"}
    assert mesh.open_bodies == 0


async def test_few_healthy_instances_mean_that_health_is_ignored() -> None:
    mesh = FakeMesh()
    for address in (A, B, C):
        await mesh.start("orders", address, ok)
        if address != A:
            ip, _, port = address.partition(":")
            await mesh.registry.register(ServiceInstance("orders", ip, int(port), healthy=False))
    async with client_of(mesh) as client:
        for _ in range(6):
            await client.get("orders", "/")
    assert len(mesh.request_counts) == 3
    strict = client_of(mesh, panic_threshold=0)
    mesh.request_counts.clear()
    async with strict as client:
        for _ in range(6):
            await client.get("orders", "/")
    assert mesh.request_counts == {A: 6}


async def test_the_own_zone_comes_first() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, ok, zone="east")
    await mesh.start("orders", B, ok, zone="west")
    async with client_of(mesh, zone="east") as client:
        for _ in range(10):
            await client.get("orders", "/")
    assert mesh.request_counts == {A: 10}


async def test_nobody_healthy_and_no_panic_says_so() -> None:
    mesh = FakeMesh()
    await mesh.registry.register(ServiceInstance("orders", "10.0.0.1", 80, healthy=False))
    async with client_of(mesh, panic_threshold=0) as client:
        with pytest.raises(NoInstanceCallError, match="are unhealthy"):
            await client.get("orders", "/")


async def test_a_key_sends_the_same_user_to_the_same_instance() -> None:
    mesh = await mesh_of(a=ok, b=ok, c=ok)
    async with client_of(mesh, balancer="maglev") as client:
        for user in ("ada", "ben", "cy"):
            mesh.request_counts.clear()
            for _ in range(3):
                await client.get("orders", "/", key=user)
            assert len(mesh.request_counts) == 1


# -- Retry-After


async def test_who_asks_for_a_rest_gets_one_while_there_are_others() -> None:
    clock = ManualClock()
    mesh = await mesh_of(a=answering(503, Retry_After="3"), b=ok)
    async with client_of(mesh, clock, breaker_failures=100) as client:
        for _ in range(6):
            assert (await client.get("orders", "/")).status_code == 200
        assert mesh.request_counts[A] == 1
        clock.advance(3.1)
        for _ in range(2):
            await client.get("orders", "/")
        assert mesh.request_counts[A] == 2


async def test_when_all_ask_for_a_longer_rest_than_there_is_time_their_answer_comes_out() -> None:
    mesh = await mesh_of(a=answering(429, Retry_After="100"), b=answering(429, Retry_After="100"))
    async with client_of(mesh) as client:
        response = await client.get("orders", "/")
    assert (response.status_code, mesh.request_counts.total()) == (429, 2)


async def test_the_only_instance_is_called_although_it_cools_down() -> None:
    mesh = await mesh_of(a=answering(503, Retry_After="100"))
    async with client_of(mesh, attempts=1, breaker_failures=9) as client:
        for _ in range(2):
            assert (await client.get("orders", "/")).status_code == 503


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "-1",
        "",
        "Wed, 21 Oct 2015 07:28:00",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    ],
)
async def test_a_cool_down_that_cannot_be_read_or_is_over_is_none(value: str) -> None:
    mesh = await mesh_of(a=answering(503, Retry_After=value), b=ok)
    async with client_of(mesh, breaker_failures=100) as client:
        for _ in range(6):
            assert (await client.get("orders", "/")).status_code == 200
    assert mesh.request_counts[A] >= 2


async def test_a_cool_down_may_be_a_date() -> None:
    dated = answering(
        503,
        Date="Wed, 21 Oct 2015 07:28:00 GMT",
        Retry_After="Wed, 21 Oct 2015 07:28:05 GMT",
    )
    mesh = await mesh_of(a=dated, b=ok)
    async with client_of(mesh, breaker_failures=100) as client:
        for _ in range(6):
            await client.get("orders", "/")
        stats = client.stats("orders")
    assert mesh.request_counts[A] == 1
    assert stats is not None
    assert set(stats.cooling_seconds) == {A}
    assert 0 < stats.cooling_seconds[A] <= 5
    assert stats.breaker_states == {A: "closed", B: "closed"}


# -- bulkhead and limit


async def test_a_call_beyond_bulkhead_and_queue_is_refused_unsent() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=2, queue=1)) as client:
        calls = [asyncio.create_task(client.get("orders", "/")) for _ in range(3)]
        await settle()
        assert gate.inside == 2
        with pytest.raises(CallRejectedError, match="bulkhead") as caught:
            await client.get("orders", "/")
        assert (caught.value.policy, caught.value.service) == ("bulkhead", "orders")
        gate.opened.set()
        assert {(await call).status_code for call in calls} == {200}
        await client.get("orders", "/")


async def test_a_stream_keeps_its_place_in_the_bulkhead_until_it_is_closed() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=1)) as client:
        async with client.stream("GET", "orders", "/"):
            with pytest.raises(CallRejectedError):
                await client.get("orders", "/")
        await client.get("orders", "/")
        mesh.fail(A, "reset")
        with pytest.raises(CallFailedError):
            await client.post("orders", "/")
        mesh.heal(A)
        await client.get("orders", "/")


async def test_a_response_that_was_dropped_gives_everything_back() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=1)) as client:
        response = await client.call("orders", httpx.Request("GET", "http://orders/"))
        with pytest.raises(CallRejectedError):
            await client.get("orders", "/")
        del response
        gc.collect()
        assert (await client.get("orders", "/")).status_code == 200
        stats = client.stats("orders")
        assert stats is not None
        assert stats.active_calls == {A: 0}


async def test_a_replaced_answer_gives_no_place_back() -> None:
    gate = Gate()
    mesh = await mesh_of(a=answering(503), b=gate)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=1), breaker_failures=99) as client:
        call = asyncio.create_task(client.get("orders", "/"))
        while not gate.inside:
            await settle(1)
            if call.done():
                call = asyncio.create_task(client.get("orders", "/"))
        with pytest.raises(CallRejectedError):
            await client.get("orders", "/")
        gate.opened.set()
        await call


async def test_an_attempt_beyond_the_rate_limit_is_refused_and_blames_no_instance() -> None:
    clock = ManualClock()
    mesh = await mesh_of(a=ok)
    limit = LimitConfig(rate=2, per_seconds=10, burst=2)
    async with client_of(mesh, clock, rate_limit=limit, breaker_failures=1) as client:
        for _ in range(2):
            await client.get("orders", "/")
        with pytest.raises(CallRejectedError) as caught:
            await client.get("orders", "/")
        assert caught.value.policy == "rate_limiter"
        assert caught.value.retry_after == pytest.approx(5.0)
        assert client.breaker_states("orders") == {A: "closed"}
        clock.advance(5)
        await client.get("orders", "/")
    assert mesh.request_counts == {A: 3}


# -- hedging


async def test_a_slow_answer_is_asked_for_elsewhere_and_the_first_one_wins() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate, b=ok)
    async with client_of(mesh, hedge_after_seconds=0.001) as client:
        for _ in range(4):
            assert (await client.get("orders", "/")).text == "ok"
        assert gate.inside <= 4
        assert client.breaker_states("orders")[A] == "closed"
    assert mesh.open_bodies == 0


async def test_what_must_not_be_sent_twice_is_not_hedged() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate, b=gate)
    async with client_of(mesh, hedge_after_seconds=0.001) as client:
        with pytest.raises(CallTimeoutError):
            await client.post("orders", "/", timeout=0.2)
    assert mesh.request_counts.total() == 1


async def test_answers_that_come_in_the_same_moment_are_all_closed() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate, b=gate)
    async with client_of(mesh, hedge_after_seconds=0.001) as client:
        call = asyncio.create_task(client.get("orders", "/"))
        await until(lambda: gate.inside == 2)
        gate.opened.set()
        assert (await call).status_code == 200
    assert mesh.open_bodies == 0


async def test_with_one_instance_there_is_nobody_to_hedge_with() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate)
    async with client_of(mesh, hedge_after_seconds=0.001) as client:
        with pytest.raises(CallTimeoutError):
            await client.get("orders", "/", timeout=0.2)
    assert mesh.request_counts.total() == 1


async def test_a_hedge_whose_first_attempt_fails_goes_on_elsewhere() -> None:
    mesh = await mesh_of(a=ok, b=ok)
    mesh.fail(A, "refuse")
    async with client_of(mesh, hedge_after_seconds=60) as client:
        for _ in range(4):
            assert (await client.get("orders", "/")).status_code == 200


# -- deadline


async def test_the_time_left_is_sent_along() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh) as client:
        await client.get("orders", "/")
        await client.get("orders", "/", timeout=2.0)
        with deadline(0.5):
            await client.get("orders", "/", timeout=2.0)
    sent = [request.headers["grpc-timeout"] for request in mesh.requests]
    assert all(value.endswith("m") for value in sent)
    whole, own, outer = (int(value[:-1]) for value in sent)
    assert 4000 < whole <= 5000
    assert 1000 < own <= 2000
    assert 0 < outer <= 500


async def test_an_outer_deadline_ends_the_call() -> None:
    mesh = await mesh_of(a=ok)
    mesh.fail(A, "hang")
    async with client_of(mesh) as client:
        with deadline(0.05), pytest.raises(CallTimeoutError, match=r"within 0\.0"):
            await client.get("orders", "/", timeout=60)


async def test_a_policy_may_keep_the_deadline_to_itself() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh, propagate_deadline=False) as client:
        await client.get("orders", "/")
    assert "grpc-timeout" not in mesh.requests[0].headers


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh) as client:
        with deadline(0.0), pytest.raises(CallTimeoutError):
            await client.get("orders", "/")
    assert mesh.request_counts.total() <= 1


# -- statuses


async def test_error_statuses_are_raised_where_the_policy_says_so() -> None:
    problem = {
        "type": "https://example.org/no-stock",
        "title": "No stock",
        "detail": "7 is sold out",
        "sku": 7,
    }
    mesh = await mesh_of(
        a=lambda _: httpx.Response(
            409,
            content=json.dumps(problem),
            headers={"content-type": "application/problem+json; charset=utf-8"},
        )
    )
    async with client_of(mesh, raise_on="errors") as client:
        with pytest.raises(
            CallStatusError, match=r"responded 409.*No stock: 7 is sold out"
        ) as caught:
            await client.get("orders", "/")
        assert isinstance(caught.value, httpx.HTTPStatusError)
        assert caught.value.response.status_code == 409
        assert caught.value.attempts[0].outcome == "409"
        assert caught.value.instance == A
        assert caught.value.problem is not None
        assert caught.value.problem.extensions == {"sku": 7}
        assert (await client.get("orders", "/", raise_on="server_errors")).status_code == 409
    assert mesh.open_bodies == 0


async def test_a_stream_of_an_error_is_read_and_raised() -> None:
    mesh = await mesh_of(a=lambda _: httpx.Response(500, text="boom"))
    async with client_of(mesh, raise_on="server_errors") as client:
        with pytest.raises(CallStatusError) as caught:
            async with client.stream("GET", "orders", "/"):
                pytest.fail("it has no body to give")
        assert caught.value.response.text == "boom"
    assert mesh.open_bodies == 0


# -- fallback


async def test_a_value_stands_in_for_a_service_that_fails() -> None:
    mesh = await mesh_of(a=ok)
    mesh.fail(A, "refuse")
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        fallbacks={"orders": httpx.Response(200, json=[])},
        default_policy=ServicePolicy(backoff_seconds=0),
    ) as client:
        first, second = [await client.get("orders", "/") for _ in range(2)]
        assert first is not second
        assert first.json() == second.json() == []
        assert first.request.url.host == "orders"
        first.raise_for_status()


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_function_of_the_error_stands_in(asynchronous: bool) -> None:
    mesh = await mesh_of(a=ok)
    mesh.fail(A, "refuse")

    def plain(error: ServiceCallError) -> httpx.Response:
        return httpx.Response(203, text=f"instead of {error.service}")

    async def later(error: ServiceCallError) -> httpx.Response:
        return plain(error)

    async with client_of(mesh) as client:
        answer: Callable[[ServiceCallError], httpx.Response | Awaitable[httpx.Response]]
        answer = later if asynchronous else plain
        assert (await client.get("orders", "/", fallback=answer)).text == "instead of orders"


async def test_the_last_good_answer_stands_in_while_it_is_fresh_enough() -> None:
    clock = ManualClock()
    mesh = await mesh_of(a=lambda request: httpx.Response(200, text=request.url.path))
    async with client_of(mesh, clock, fallback_cache_seconds=60, breaker_failures=99) as client:
        await client.get("orders", "/7")
        await client.get("orders", "/7", headers={"authorization": "of Ada"})
        mesh.fail(A, "refuse")
        clock.advance(30)
        kept = await client.get("orders", "/7")
        assert (kept.text, kept.headers["age"]) == ("/7", "30")
        for other in ("/8", "/7"):
            with pytest.raises(CallFailedError):
                await client.get("orders", other, headers={"authorization": "of Ben"})
        with pytest.raises(CallFailedError):
            await client.put("orders", "/7")
        clock.advance(31)
        with pytest.raises(CallFailedError):
            await client.get("orders", "/7")


async def test_the_last_good_answer_stands_in_for_a_server_error() -> None:
    answers = iter([httpx.Response(200, text="good"), httpx.Response(500, text="bad")])
    mesh = await mesh_of(a=lambda _: next(answers))
    async with client_of(mesh, fallback_cache_seconds=60) as client:
        await client.get("orders", "/")
        assert (await client.get("orders", "/")).text == "good"
    assert mesh.open_bodies == 0


@pytest.mark.parametrize("control", ["no-store", "private, max-age=3"])
async def test_what_must_not_be_stored_is_not(control: str) -> None:
    mesh = await mesh_of(a=answering(200, Cache_Control=control))
    async with client_of(mesh, fallback_cache_seconds=60) as client:
        await client.get("orders", "/")
        mesh.fail(A, "refuse")
        with pytest.raises(CallFailedError):
            await client.get("orders", "/")


async def test_the_kept_answers_are_bounded() -> None:
    mesh = await mesh_of(a=ok)
    async with client_of(mesh, fallback_cache_seconds=60, breaker_failures=99) as client:
        for number in range(257):
            await client.get("orders", f"/{number}")
        mesh.fail(A, "refuse")
        assert (await client.get("orders", "/256")).text == "ok"
        with pytest.raises(CallFailedError):
            await client.get("orders", "/0")


# -- policies that change


async def test_a_new_policy_holds_for_new_calls_and_drops_none() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate, b=answering(503))
    async with client_of(mesh, breaker_failures=50) as client:
        under_way = asyncio.create_task(client.get("orders", "/"))
        while not gate.inside:
            await settle(1)
        client.apply_policies(
            parse_policies({"default": {"attempts": 1}, "services": {"orders": {"balancer": "rr"}}})
        )
        assert not under_way.done()
        gate.opened.set()
        assert (await under_way).status_code == 200
        mesh.request_counts.clear()
        codes = {(await client.get("orders", "/")).status_code for _ in range(4)}
    assert codes == {200, 503}
    assert mesh.request_counts.total() == 4


async def test_what_a_new_policy_leaves_alone_stays() -> None:
    mesh = await mesh_of(a=ok, b=ok)
    mesh.fail(A, "refuse")
    balancers: list[Balancer[ServiceInstance]] = []

    def make(name: str, policy: ServicePolicy) -> Balancer[ServiceInstance]:
        balancers.append(RoundRobin(name=name))
        return balancers[-1]

    base: dict[str, object] = {"breaker_failures": 1, "backoff_seconds": 0}
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        make_balancer=make,
        default_policy=ServicePolicy.model_validate(base),
    ) as client:
        for _ in range(2):
            await client.get("orders", "/")
        client.apply_policies(parse_policies({"default": {**base, "attempts": 2}}))
        assert client.breaker_states("orders")[A] == "open"
        await client.get("orders", "/")
        assert mesh.request_counts[A] == 1
        assert len(balancers) == 1
        client.apply_policies(parse_policies({"default": {**base, "breaker_open_seconds": 1}}))
        assert client.breaker_states("orders") == {}
        client.apply_policies(parse_policies({"default": {**base, "zone": "east"}}))
        assert len(balancers) == 2


async def test_a_smaller_bulkhead_lets_those_inside_finish() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=3)) as client:
        calls = [asyncio.create_task(client.get("orders", "/")) for _ in range(3)]
        while gate.inside < 3:
            await settle(1)
        client.apply_policies(parse_policies({"default": {"bulkhead": {"limit": 1}}}))
        with pytest.raises(CallRejectedError):
            await client.get("orders", "/")
        gate.opened.set()
        assert {(await call).status_code for call in calls} == {200}
        assert (await client.get("orders", "/")).status_code == 200


async def test_policies_of_a_configuration_center_are_watched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="microservice_client")
    mesh = await mesh_of(a=answering(503))
    center = InMemoryConfigCenter()
    async with client_of(mesh) as client:

        async def count_attempts() -> int:
            mesh.request_counts.clear()
            await client.get("orders", "/")
            return mesh.request_counts.total()

        await center.publish_config(
            "calls.json", '{"default": {"attempts": 2, "breaker_failures": 99}}'
        )
        stop = client.watch_policies(center, "calls.json")
        await until(lambda: "using policies from calls.json" in caplog.text)
        assert await count_attempts() == 2
        for broken in ('{"default": {"attempts": 0}}', "no json: secret", '["a list"]', "[" * 9000):
            caplog.clear()
            await center.publish_config("calls.json", broken)
            await until(lambda: "keeping the last ones" in caplog.text)
            assert "secret" not in caplog.text
            assert await count_attempts() == 2
        await center.publish_config("calls.json", '{"services": {"orders": {"attempts": 1}}}')
        await until(lambda: "using policies from" in caplog.text)
        assert await count_attempts() == 1
        stop()
        stop()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"serv": {}}, "policies must be fields `default` and `services` only"),
        ({"default": 3}, "default must be a mapping of names"),
        ({"services": {"orders": {"attempts": "many"}}}, r"services\.orders\.attempts must be"),
        ({"services": {"orders": {"attempt": 2}}}, r"services\.orders\.attempt must be"),
        ({"default": {"tls": {"key_file": "k"}}}, "needs certificate_file"),
        ({"default": {"version": "new"}}, "PEP 440"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_whole(
    config: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_policies(config)


def test_a_services_fields_go_on_top_of_the_defaults() -> None:
    policies = parse_policies(
        {
            "default": {"attempts": 2, "labels": {"b": "2", "a": "1"}},
            "services": {"orders": {"backoff_seconds": 1}},
        }
    )
    assert policies.get("orders") == ServicePolicy(
        attempts=2, backoff_seconds=1, labels=(("a", "1"), ("b", "2"))
    )
    assert policies.get("stock") == policies.default
    assert Policies().get("stock") == ServicePolicy()


async def test_one_call_may_have_a_policy_of_its_own() -> None:
    mesh = await mesh_of(a=answering(503), b=answering(503))
    async with client_of(mesh, breaker_failures=99) as client:
        await client.get("orders", "/", policy=ServicePolicy(attempts=1))
        assert mesh.request_counts.total() == 1
        await client.post("orders", "/", idempotent=True)
        assert mesh.request_counts.total() == 4
        await client.get("orders", "/", idempotent=False)
        assert mesh.request_counts.total() == 5


async def test_a_thousand_cancelled_calls_leave_nothing_behind() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate, b=gate)
    async with client_of(mesh, bulkhead=BulkheadConfig(limit=5, queue=2000)) as client:
        calls = [asyncio.create_task(client.get("orders", "/")) for _ in range(1000)]
        await settle()
        for call in calls:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in outcomes)
        assert set(client.breaker_states("orders").values()) == {"closed"}
        gate.opened.set()
        assert (await client.get("orders", "/")).status_code == 200
        assert {one.outcome for one in client.recent_calls()} == {"200", "cancelled"}
    assert mesh.open_bodies == 0


async def test_a_call_cancelled_between_two_attempts_leaves_no_answer_open() -> None:
    mesh = await mesh_of(a=answering(503), b=answering(503))
    async with client_of(mesh, backoff_seconds=60) as client:
        call = asyncio.create_task(client.get("orders", "/"))
        await until(lambda: mesh.open_bodies == 1)
        await settle()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert mesh.open_bodies == 0


async def test_the_retry_budget_keeps_a_dead_service_from_a_storm() -> None:
    mesh = await mesh_of(a=answering(503))
    async with client_of(
        mesh, retry_budget_ratio=0, retry_budget_per_second=0.1, breaker_failures=10_000
    ) as client:
        for _ in range(20):
            await client.get("orders", "/")
    assert mesh.request_counts.total() == 21


async def test_a_refusal_is_counted(meters: Any) -> None:
    mesh = await mesh_of(a=ok)
    policy = ServicePolicy(rate_limit=LimitConfig(rate=1, per_seconds=1000))
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, meter_provider=meters
    ) as client:
        await client.get("orders", "/")
        with pytest.raises(CallRejectedError):
            await client.get("orders", "/")
    assert meters.meter.of("microservice.client.rejections") == [
        {"server.address": "orders", "microservice.policy": "rate_limiter"}
    ]


async def test_a_slow_start_needs_no_more_than_a_policy() -> None:
    clock = ManualClock()
    mesh = await mesh_of(a=ok)
    async with client_of(
        mesh, clock, slow_start_seconds=100, balancer="smooth_weighted_round_robin"
    ) as client:
        await client.get("orders", "/")
        await mesh.start("orders", B, ok)
        await settle()
        mesh.request_counts.clear()
        for _ in range(20):
            await client.get("orders", "/")
    assert mesh.request_counts[B] < 5 < mesh.request_counts[A]


async def test_a_document_that_goes_brings_the_defaults_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="microservice_client")
    center = InMemoryConfigCenter()
    applied: list[Policies] = []
    await center.publish_config("calls.json", '{"default": {"attempts": 2}}', group_name="g")
    stop = watch_policies(applied.append, center, "calls.json", group_name="g")
    await until(lambda: len(applied) == 1)
    await center.delete_config("calls.json", group_name="g")
    await until(lambda: len(applied) == 2)
    stop()
    assert [one.default.attempts for one in applied] == [2, 3]


async def test_many_policies_of_single_calls_do_not_fill_the_memory() -> None:
    mesh = await mesh_of(a=ok, b=ok)
    async with client_of(mesh) as client:
        for number in range(1, 140):
            policy = ServicePolicy(backoff_seconds=number / 1000, hedge_after_seconds=number)
            await client.get("orders", "/", policy=policy)
        stats = client.stats("orders")
        assert stats is not None
        assert 2 <= stats.cached_policies <= 128


async def test_no_more_calls_are_made_than_the_service_bears() -> None:
    gate = Gate()
    mesh = await mesh_of(a=gate)
    limit = {"initial": 2, "min_limit": 1, "max_limit": 2}
    async with client_of(mesh, adaptive_limit=limit, bulkhead={"limit": 3}) as client:
        calls = [asyncio.create_task(client.get("orders", "/")) for _ in range(2)]
        await until(lambda: gate.inside == 2)
        with pytest.raises(CallRejectedError) as caught:
            await client.get("orders", "/")
        assert caught.value.policy == "adaptive_limit"
        client.apply_policies(parse_policies({"default": {"adaptive_limit": limit, "attempts": 1}}))
        with pytest.raises(CallRejectedError):
            await client.get("orders", "/")
        gate.opened.set()
        assert {(await call).status_code for call in calls} == {200}
        assert (await client.get("orders", "/")).status_code == 200
