import asyncio
import gc
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import pytest

from lite_registry import LiteRegistryServer
from lite_registry.http_listener import HttpListener
from lite_registry.provider import LiteServiceRegistry, service_registry
from lite_registry.request import Request
from lite_registry.response import Response, StreamResponse, build_json_response
from microservice_core import (
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
    open_service_registry,
)
from microservice_core.testing import Recorder, RegistrationHandoverContract, eventually

TOKEN = "correct-horse-battery"
ORDERS = ServiceInstance("orders", "127.0.0.1", 9001, metadata={"lane": "dev"})


@pytest.fixture
async def server() -> AsyncIterator[LiteRegistryServer]:
    async with LiteRegistryServer(port=0, tokens=[TOKEN]) as server:
        yield server


@pytest.fixture
async def registry(server: LiteRegistryServer) -> AsyncIterator[LiteServiceRegistry]:
    async with LiteServiceRegistry(server.url, token=TOKEN) as registry:
        yield registry


class TestLiteServiceRegistry(RegistrationHandoverContract):
    pass


async def test_the_provider_is_found_by_its_name(server: LiteRegistryServer) -> None:
    async with open_service_registry("lite", {"url": server.url, "token": TOKEN}) as registry:
        await registry.register(ORDERS)
        assert await registry.get_instances("orders") == (ORDERS,)


async def test_a_lease_is_kept_alive_and_closing_ends_it(server: LiteRegistryServer) -> None:
    async with LiteServiceRegistry(server.url) as witness:
        seen: Recorder[Sequence[ServiceInstance]] = Recorder()
        witness.watch_instances("orders", seen)
        async with LiteServiceRegistry(server.url, token=TOKEN, ttl_seconds=1.0) as registry:
            await registry.register(ORDERS)
            await seen.wait_for(lambda states: list(states) == [ORDERS])
            with pytest.raises(AssertionError):  # three lifetimes later it is still there
                await seen.wait_for(lambda states: not states, within_seconds=3.0)
        await seen.wait_for(lambda states: not states, within_seconds=0.9)


async def test_a_handed_over_instance_outlives_its_keeper_until_another_deregisters_it(
    server: LiteRegistryServer, registry: LiteServiceRegistry
) -> None:
    async with LiteServiceRegistry(server.url, token=TOKEN, ttl_seconds=1.0) as keeper:
        await keeper.register(ORDERS)
        await keeper.hand_over(ORDERS)
    assert await registry.get_instances("orders") == (ORDERS,)
    await registry.register(replace(ORDERS, weight=2.0))
    with pytest.raises(AssertionError):  # two of the first one's lifetimes later
        await eventually(
            lambda: registry.get_instances("orders"), lambda seen: not seen, within_seconds=2.0
        )
    await registry.deregister(ORDERS)
    assert await registry.get_instances("orders") == ()


async def test_a_busy_event_loop_costs_no_lease() -> None:
    command = [sys.executable, "-m", "lite_registry", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        async with LiteServiceRegistry(url, ttl_seconds=1.0) as registry:
            await registry.register(ORDERS)
            until = time.monotonic() + 2.5
            while time.monotonic() < until:  # this loop does nothing else for two lifetimes
                response = httpx.get(f"{url}/v1/instances/orders", trust_env=False)  # noqa: ASYNC210
                listed = response.json()
                assert len(listed["instances"]) == 1
        process.terminate()


async def test_instances_that_a_restarted_server_forgot_are_registered_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with LiteRegistryServer(port=0) as first:
        registry = LiteServiceRegistry(first.url, ttl_seconds=1.0)
        await registry.register(ORDERS)
        seen: Recorder[Sequence[ServiceInstance]] = Recorder()
        registry.watch_instances("orders", seen)
        await seen.wait_for(lambda states: list(states) == [ORDERS])
    async with registry:
        with pytest.raises(ServiceRegistryUnavailableError, match="check the url"):
            await registry.get_instances("orders")
        async with (
            LiteRegistryServer(port=first.port),
            LiteServiceRegistry(first.url) as witness,
        ):
            await eventually(
                lambda: witness.get_instances("orders"), lambda states: states == (ORDERS,)
            )
    assert "the registry forgot 127.0.0.1:9001; registering again" in caplog.text


async def test_while_a_restarted_server_is_unsettled_no_known_instance_is_missing() -> None:
    other = replace(ORDERS, port=9002, instance_id="other")
    async with LiteRegistryServer(port=0) as first:
        writer = LiteServiceRegistry(first.url, ttl_seconds=30.0)
        await writer.register(ORDERS)
        await writer.register(other)
        registry = LiteServiceRegistry(first.url)
        seen: Recorder[Sequence[ServiceInstance]] = Recorder()
        registry.watch_instances("orders", seen)
        await seen.wait_for(lambda states: len(states) == 2)
        assert len(await writer.get_instances("orders")) == 2
    gate = asyncio.Event()
    hours = 0.0

    async def sleep(_: float) -> None:
        await gate.wait()

    def wall_clock() -> float:
        return time.time() + hours * 3600

    async with registry, LiteRegistryServer(port=first.port, sleep=sleep, wall_clock=wall_clock):
        await eventually(lambda: read_orders(registry), lambda states: len(states) == 2)
        await writer.deregister(other)
        assert [each.port for each in await writer.get_instances("orders")] == [9001]
        assert len(seen.states[-1]) == 2
        hours = 1.0
        gate.set()
        await seen.wait_for(lambda states: not states)
        await writer.close()


async def read_orders(registry: LiteServiceRegistry) -> Sequence[ServiceInstance]:
    """The instances, none while the server is away."""
    try:
        return await registry.get_instances("orders")
    except ServiceRegistryUnavailableError:
        return ()


async def test_another_server_takes_over(server: LiteRegistryServer) -> None:
    async with LiteRegistryServer(port=0, tokens=[TOKEN]) as gone:
        url = f"{gone.url},{server.url}/"
    async with LiteServiceRegistry(url, token=TOKEN) as registry:
        await registry.register(ORDERS)
        assert await registry.get_instances("orders") == (ORDERS,)


async def test_a_wrong_token_says_so_and_registers_nothing(server: LiteRegistryServer) -> None:
    async with LiteServiceRegistry(server.url, token="wrong-token") as registry:
        with pytest.raises(ServiceRegistryAccessDeniedError, match="one of the server's tokens"):
            await registry.register(ORDERS)
        assert await registry.get_instances("orders") == ()


async def test_a_cancelled_register_leaves_the_registry_usable(
    registry: LiteServiceRegistry,
) -> None:
    task = asyncio.create_task(registry.register(ORDERS))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await registry.register(ORDERS)
    await registry.deregister(ORDERS)
    assert await registry.get_instances("orders") == ()


async def test_the_last_watch_of_a_service_ends_its_polling(
    server: LiteRegistryServer, registry: LiteServiceRegistry
) -> None:
    before = asyncio.all_tasks()
    first: Recorder[Sequence[ServiceInstance]] = Recorder()
    stops = [registry.watch_instances("orders", first) for _ in range(2)]
    await first.wait_for(lambda states: not states)
    stops[0]()
    assert len(asyncio.all_tasks() - before) >= 1
    stops[1]()

    async def count_polls() -> int:
        return sum("_keep_polling" in str(task) for task in asyncio.all_tasks() - before)

    await eventually(count_polls, lambda count: count == 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"url must be one or more addresses such as 'http://lite-registry:8080', not ''"),
        ({"url": "ftp://x"}, "url must be one or more addresses"),
        ({"url": []}, "url must be one or more addresses"),
        ({"url": "http://x", "tll_seconds": 3}, "must be one of url, token, ttl_seconds"),
        ({"url": "http://x", "ttl_seconds": 0.5}, "ttl_seconds must be a number of seconds from 1"),
        ({"url": "http://x", "timeout_seconds": "5"}, "timeout_seconds must be a number"),
        ({"url": "http://x", "token": "line\nbreak"}, "token must be printable ASCII"),
    ],
)
async def test_a_wrong_setting_is_one_clear_error(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        async with service_registry(settings):
            pass


async def test_neither_url_credentials_nor_tokens_are_ever_shown() -> None:
    with pytest.raises(InvalidValueError) as caught:
        LiteServiceRegistry("http://user:secret@host")
    assert "secret" not in str(caught.value)
    assert "hidden" not in repr(LiteServiceRegistry("http://host", token="hidden-token"))


async def test_a_second_watch_of_a_service_gets_the_list_at_once(
    registry: LiteServiceRegistry,
) -> None:
    await registry.register(ORDERS)
    first: Recorder[Sequence[ServiceInstance]] = Recorder()
    second: Recorder[Sequence[ServiceInstance]] = Recorder()
    registry.watch_instances("orders", first)
    await first.wait_for(lambda states: len(states) == 1)
    registry.watch_instances("orders", second)
    await second.wait_for(lambda states: len(states) == 1, within_seconds=0.5)


async def test_a_closed_registry_refuses_politely(registry: LiteServiceRegistry) -> None:
    assert registry.server_address.startswith("http://127.0.0.1:")
    await registry.close()
    with pytest.raises(ServiceRegistryError, match="it is closed; open another one"):
        await registry.register(ORDERS)
    with pytest.raises(ServiceRegistryError, match="it is closed"):
        await registry.get_instances("orders")


async def test_while_no_server_responds_renewals_continue_and_closing_is_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with LiteRegistryServer(port=0) as server:
        registry = LiteServiceRegistry(server.url, ttl_seconds=1.0)
        await registry.register(ORDERS)
    await eventually(
        lambda: asyncio.sleep(0, caplog.text),
        lambda text: "retrying until it succeeds" in text,
    )
    with pytest.raises(ServiceRegistryUnavailableError):
        await registry.deregister(replace(ORDERS, instance_id="other"))
    await asyncio.wait_for(registry.close(), 5)
    assert "the lease will expire" in caplog.text


def respond_with(response: Response) -> HttpListener:
    return HttpListener(lambda _: response)


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        (Response(200, b"<html>", "text/html"), ServiceRegistryError, "is not a registry document"),
        (build_json_response(200, [1]), ServiceRegistryError, "is not a registry document"),
        (build_json_response(200, {}), ServiceRegistryError, "is not a list of instances"),
        (
            build_json_response(200, {"instances": [{"id": 1}]}),
            ServiceRegistryError,
            "is not a list",
        ),
        (Response(500, b"oops"), ServiceRegistryError, "HTTP 500: no explanation"),
        (
            build_json_response(503, {"detail": "later"}),
            ServiceRegistryUnavailableError,
            "503: later",
        ),
        (build_json_response(403, {}), ServiceRegistryAccessDeniedError, "HTTP 403"),
    ],
)
async def test_a_server_that_is_not_a_registry_is_a_named_error(
    response: Response, kind: type[Exception], message: str
) -> None:
    listener = respond_with(response)
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}") as registry:
        with pytest.raises(kind, match=message):
            await registry.get_instances("orders")
    await listener.aclose(0.0)


@pytest.mark.parametrize(
    "response",
    [
        Response(304),
        Response(503),
        build_json_response(200, {"version": "1", "instances": []}),
        build_json_response(200, {"instances": []}),
        build_json_response(200, {"hello": "proxy"}),
    ],
)
async def test_a_server_that_does_not_wait_is_not_polled_in_a_hot_loop(response: Response) -> None:
    requests = 0

    def count(_: Request) -> Response:
        nonlocal requests
        requests += 1
        return response

    listener = HttpListener(count)
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}") as registry:
        registry.watch_instances("orders", lambda _: None)
        await eventually(lambda: asyncio.sleep(0, requests), lambda count: count >= 3)
        assert requests < 10
    await listener.aclose(0.0)


async def test_garbage_does_not_end_a_watch() -> None:
    document = {"id": "1", "ip": "127.0.0.1", "port": 9001, "weight": 1.0, "cluster": ""}
    document |= {"healthy": True, "enabled": True, "ephemeral": True, "metadata": {}}
    garbage = [
        build_json_response(200, {"hello": "proxy"}),
        build_json_response(200, {"version": "2", "instances": [{"id": 1}]}),
        Response(200, b"<html>", "text/html"),
        Response(200, b"no gzip", "application/json", (("content-encoding", "gzip"),)),
        Response(200, b"[" * 100_000, "application/json"),
    ]
    before = build_json_response(200, {"version": "1", "instances": []})
    after = build_json_response(200, {"version": "3", "instances": [document]})
    responses = iter([before, *(each for bad in garbage for each in (bad, Response(304))), after])
    listener = HttpListener(lambda _: next(responses, Response(304)))
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}") as registry:
        seen: Recorder[Sequence[ServiceInstance]] = Recorder()
        registry.watch_instances("orders", seen)
        await seen.wait_for(
            lambda states: [each.port for each in states] == [9001], within_seconds=30
        )
    await listener.aclose(0.0)


async def test_garbage_ends_no_lease() -> None:
    renewals: list[bytes] = []

    def response(request: Request) -> Response:
        if request.method != "POST":
            return build_json_response(201, {})
        renewals.append(request.target)
        return Response(200, b"no gzip", "application/json", (("content-encoding", "gzip"),))

    listener = HttpListener(response)
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}", ttl_seconds=1.0) as registry:
        await registry.register(ORDERS)
        await eventually(lambda: asyncio.sleep(0, renewals), lambda seen: len(seen) >= 3)
        await registry.deregister(ORDERS)
    await listener.aclose(0.0)


async def test_the_size_of_a_response_is_limited() -> None:
    listener = respond_with(Response(200, b" " * (64 * 1024 * 1024 + 1), "application/json"))
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}", timeout_seconds=60) as registry:
        with pytest.raises(ServiceRegistryUnavailableError, match="more than 67108864 bytes"):
            await registry.get_instances("orders")
        with pytest.raises(ServiceRegistryUnavailableError, match="more than 67108864 bytes"):
            await registry.register(ORDERS)
    await listener.aclose(0.0)


async def send_drops() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.02)


async def test_a_response_that_comes_byte_by_byte_takes_no_longer_than_a_request_may() -> None:
    listener = HttpListener(lambda _: StreamResponse(send_drops(), "application/json"))
    port = await listener.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    async with LiteServiceRegistry(url, timeout_seconds=0.3) as registry:
        with pytest.raises(ServiceRegistryUnavailableError, match=r"not respond within 0\.3 s"):
            await registry.get_instances("orders")
        with pytest.raises(ServiceRegistryUnavailableError, match=r"not respond within 0\.3 s"):
            await registry.register(ORDERS)
    await listener.aclose(0.0)


# anyio, below httpx, leaves a socket to the collector when it is cancelled as the socket connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_request_cancelled_at_any_moment_leaves_no_connection_behind() -> None:
    listener = respond_with(build_json_response(200, {"version": "1", "instances": []}))
    port = await listener.listen("127.0.0.1", 0)
    async with LiteServiceRegistry(f"http://127.0.0.1:{port}") as registry:
        for turns in [*range(60)] * 3:
            reading = asyncio.create_task(registry.get_instances("orders"))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        assert await registry.get_instances("orders") == ()
        gc.collect()
        await eventually(lambda: asyncio.sleep(0, listener.connections), lambda count: count <= 1)
    await listener.aclose(0.0)


async def test_the_number_of_remembered_lists_is_bounded(registry: LiteServiceRegistry) -> None:
    for number in range(1030):
        await registry.get_instances(f"s{number}")
    assert registry.remembered_services == 1024


async def test_a_poll_that_fails_for_an_unforeseen_reason_is_logged_and_continues(
    registry: LiteServiceRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    unencodable: Recorder[Sequence[ServiceInstance]] = Recorder()
    unsubscribe = registry.watch_instances("lone-surrogate-\ud800", unencodable)
    await eventually(
        lambda: asyncio.sleep(0, caplog.text), lambda text: "failed; it continues" in text
    )
    unsubscribe()
    assert not unencodable.states


async def test_watches_that_end_at_once_leave_nothing_behind(server: LiteRegistryServer) -> None:
    async with LiteServiceRegistry(server.url) as registry:
        before = asyncio.all_tasks()
        for _ in range(100):
            registry.watch_instances("orders", lambda _: None)()
        left = asyncio.all_tasks() - before
        await asyncio.wait(left, timeout=10)
        assert all(task.done() for task in left)
    assert server.watchers == 0
