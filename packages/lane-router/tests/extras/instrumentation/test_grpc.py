"""gRPC: the lane in metadata, a channel that goes to the lane, and interceptors that read it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import grpc.aio
import pytest
from anyio.lowlevel import checkpoint

from lane_router import (
    LaneCounts,
    LaneRouter,
    LaneUnavailableError,
    current_lane,
    instrument,
    lane_scope,
    uninstrument,
)
from lane_router.instrumentation.grpc_aio_client import AsyncLaneChannel
from lane_router.instrumentation.grpc_client import LaneChannel
from lane_router.instrumentation.grpc_metadata import parse_target
from lane_router.instrumentation.grpc_server import (
    AsyncLaneServerInterceptor,
    LaneServerInterceptor,
)

UNARY = "/orders/Unary"
STREAM = "/orders/Stream"


def lane_now() -> bytes:
    return (current_lane() or "-").encode()


class Handlers(grpc.GenericRpcHandler):
    """Methods that return the lane they run in, and the name of their server."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.metadata: list[dict[str, str | bytes]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        self.metadata.append(dict(handler_call_details.invocation_metadata or ()))
        kinds: dict[str, Any] = {
            UNARY: grpc.unary_unary_rpc_method_handler(self.unary),
            STREAM: grpc.unary_stream_rpc_method_handler(self.stream),
            "/orders/Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "/orders/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }
        return kinds.get(handler_call_details.method)

    def unary(self, request: bytes, context: Any) -> bytes:
        return self.name + b":" + lane_now()

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield lane_now()
        with lane_scope("inner"):
            yield lane_now()
        yield lane_now()

    def collect(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b",".join([*requests, lane_now()])

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request + lane_now()


class AsyncHandlers(Handlers):
    async def unary(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return self.name + b":" + lane_now()

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        yield lane_now()
        with lane_scope("inner"):
            yield lane_now()
        yield lane_now()

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # type: ignore[override]
        return b",".join([*[item async for item in requests], lane_now()])

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> None:  # type: ignore[override]
        async for request in requests:
            await context.write(request + lane_now())


class Server:
    def __init__(self, name: bytes, **options: Any) -> None:
        self.handlers = Handlers(name)
        self.server = grpc.server(
            ThreadPoolExecutor(4),
            handlers=[self.handlers],
            interceptors=[LaneServerInterceptor(**options)],
            options=[("grpc.so_reuseport", 0)],
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    base, dev = Server(b"base"), Server(b"dev")
    yield base, dev
    uninstrument()
    base.stop()
    dev.stop()


def router(base: int, dev: int, mode: str = "permissive") -> LaneRouter:
    document = {
        "orders": {
            "lanes": ["dev"],
            "base": {"name": "127.0.0.1", "port": 8000, "ports": {"grpc": base}},
            "lane": {"dev": {"name": "127.0.0.1", "port": 8001, "ports": {"grpc": dev}}},
        }
    }
    return LaneRouter.from_document({"services": document}, mode=mode)  # type: ignore[arg-type]


def connect(target: str) -> Any:
    """Without the types of a serialiser: what is sent are bytes."""
    return grpc.insecure_channel(target)


def connect_async(target: str) -> Any:
    return grpc.aio.insecure_channel(target)


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def test_each_rpc_of_a_channel_goes_to_its_lane(servers: tuple[Server, Server]) -> None:
    base, dev = servers
    instrument(router(base.port, dev.port))
    with connect(f"dns:///orders:{base.port}") as channel:
        assert isinstance(channel, LaneChannel)
        call = channel.unary_unary(UNARY)
        for lane, expected in (("dev", b"dev:dev"), ("other", b"base:other"), (None, b"base:-")):
            with lane_scope(lane):
                assert call(b"") == expected
                assert call.future(b"").result() == expected
                assert call.with_call(b"")[0] == expected
    assert dev.handlers.metadata[0]["x-lane"] == "dev"
    assert dev.handlers.metadata[0]["baggage"] == "lane=dev"


def test_without_a_router_allowed_targets_receive_the_lane(servers: tuple[Server, Server]) -> None:
    base, _ = servers
    channel = LaneChannel(f"127.0.0.1:{base.port}", mesh_hosts=("127.0.0.1",))
    with channel, lane_scope("other"):
        assert channel.unary_unary(UNARY)(b"", metadata=(("user", "7"),)) == b"base:other"
    assert base.handlers.metadata[0]["user"] == "7"


def test_every_kind_of_rpc_runs_in_its_lane(servers: tuple[Server, Server]) -> None:
    base, _ = servers
    with LaneChannel(f"127.0.0.1:{base.port}", mesh_hosts=("127.0.0.1",)) as channel:
        with lane_scope("dev"):
            streamed = channel.unary_stream(STREAM)(b"")
            collected = channel.stream_unary("/orders/Collect")(iter([b"a", b"b"]))
            chat = channel.stream_stream("/orders/Chat")(iter([b"a", b"b"]))
        assert list(streamed) == [b"dev", b"inner", b"dev"]
        assert collected == b"a,b,dev"
        assert list(chat) == [b"adev", b"bdev"]


def test_a_foreign_target_receives_no_lane(servers: tuple[Server, Server]) -> None:
    base, dev = servers
    instrument(router(base.port, dev.port))
    metadata = (("x-lane", "mine"), ("baggage", "user=7,lane=mine"))
    with connect(f"localhost:{base.port}") as channel, lane_scope("dev"):
        channel.unary_unary(UNARY)(b"", metadata=metadata)
    assert "x-lane" not in base.handlers.metadata[0]
    assert base.handlers.metadata[0]["baggage"] == "user=7"


def test_trap_7_a_lane_without_a_server_is_served_by_the_base(
    servers: tuple[Server, Server],
) -> None:
    base, _ = servers
    routes = router(base.port, closed_port())
    opened: list[str] = []

    def open_channel(target: str) -> grpc.Channel:
        opened.append(target)
        where = target.replace("orders", "127.0.0.1")
        return grpc.insecure_channel(where)

    channel = LaneChannel(f"orders:{base.port}", routes, open_channel=open_channel)
    with channel, lane_scope("dev"):
        assert channel.unary_unary(UNARY)(b"") == b"base:dev"
        assert routes.resolve("orders").outcome == "base_fallback"
        assert channel.unary_unary(UNARY)(b"") == b"base:dev"
    assert len(opened) == 3


def test_a_stream_that_failed_is_not_repeated_but_the_next_goes_to_the_base(
    servers: tuple[Server, Server],
) -> None:
    base, _ = servers
    routes = router(base.port, closed_port())
    channel = LaneChannel(
        f"orders:{base.port}",
        routes,
        open_channel=lambda to: grpc.insecure_channel(to.replace("orders", "127.0.0.1")),
    )
    with channel, lane_scope("dev"):
        with pytest.raises(grpc.RpcError):
            list(channel.unary_stream(STREAM)(b""))
        while (
            routes.resolve("orders").outcome == "lane"
        ):  # a thread of gRPC reports the end of the call
            pass
        assert next(iter(channel.unary_stream(STREAM)(b""))) == b"dev"
        with pytest.raises(grpc.RpcError):
            LaneChannel(f"127.0.0.1:{closed_port()}", mesh_hosts=("127.0.0.1",)).unary_unary(UNARY)(
                b""
            )


def test_a_strict_lane_is_an_error_before_anything_is_sent(servers: tuple[Server, Server]) -> None:
    base, dev = servers
    channel = LaneChannel(f"orders:{base.port}", router(base.port, dev.port, "strict"))
    with channel, lane_scope("other"), pytest.raises(LaneUnavailableError):
        channel.unary_unary(UNARY)(b"")


@pytest.mark.parametrize(
    ("metadata", "response"),
    [([("x-lane", "Dev")], b"base:-"), ([("x-lane", "a"), ("x-lane", "b")], b"base:-"),
     ([("baggage", "lane=dev")], b"base:dev"), ([], b"base:-")],
)  # fmt: skip
def test_what_the_metadata_says_is_checked(
    servers: tuple[Server, Server], metadata: list[tuple[str, str]], response: bytes
) -> None:
    with connect(f"127.0.0.1:{servers[0].port}") as channel, lane_scope("caller"):
        assert channel.unary_unary(UNARY)(b"", metadata=metadata) == response


def test_strict_servers_refuse_garbage_and_unknown_methods_stay_unknown() -> None:
    counts = LaneCounts()
    server = Server(b"base", mode="strict", observer=counts)
    with connect(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(UNARY)(b"", metadata=[("x-lane", "D")])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError):
            list(channel.unary_stream(STREAM)(b"", metadata=[("x-lane", "D")]))
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/orders/Nothing")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert counts.drops == {"invalid": 2}
    server.stop()


async def start_async(name: bytes, **options: Any) -> tuple[grpc.aio.Server, AsyncHandlers, int]:
    handlers = AsyncHandlers(name)
    server = grpc.aio.server(
        handlers=[handlers], interceptors=[AsyncLaneServerInterceptor(**options)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, handlers, port


async def test_asyncio_does_the_same() -> None:
    base, _, base_port = await start_async(b"base")
    dev, handlers, dev_port = await start_async(b"dev")
    try:
        instrument(router(base_port, dev_port))
        async with connect_async(f"orders:{base_port}") as channel:
            assert isinstance(channel, AsyncLaneChannel)
            with lane_scope("dev"):
                assert await channel.unary_unary(UNARY)(b"") == b"dev:dev"
                streamed = channel.unary_stream(STREAM)(b"", metadata=(("user", "7"),))
                assert [item async for item in streamed] == [b"dev", b"inner", b"dev"]
                collected = await channel.stream_unary("/orders/Collect")(iter([b"a"]))
                assert collected == b"a,dev"
                chat = channel.stream_stream("/orders/Chat")(iter([b"a"]))
                assert [item async for item in chat] == [b"adev"]
            with lane_scope("dev"):
                call = channel.unary_unary(UNARY)(b"")
                assert await call == b"dev:dev"
                assert await call.code() is grpc.StatusCode.OK
        assert handlers.metadata[0]["x-lane"] == "dev"
        assert handlers.metadata[1]["user"] == "7"
    finally:
        uninstrument()
        await base.stop(None)
        await dev.stop(None)


async def test_asyncio_a_lane_without_a_server_is_served_by_the_base() -> None:
    base, _, port = await start_async(b"base")
    routes = router(port, closed_port())

    def open_channel(target: str, interceptors: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(target.replace("orders", "127.0.0.1"))

    channel = AsyncLaneChannel(f"orders:{port}", routes, open_channel=open_channel)
    async with channel:
        with lane_scope("dev"):
            assert await channel.unary_unary(UNARY)(b"") == b"base:dev"
            assert routes.resolve("orders").outcome == "base_fallback"
            assert await channel.unary_unary(UNARY)(b"") == b"base:dev"
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
    await base.stop(None)


async def test_asyncio_a_stream_that_failed_marks_the_lane() -> None:
    base, _, port = await start_async(b"base")
    routes = router(port, closed_port())
    channel = AsyncLaneChannel(
        f"orders:{port}",
        routes,
        open_channel=lambda to, _: grpc.aio.insecure_channel(to.replace("orders", "127.0.0.1")),
    )
    async with channel:
        with lane_scope("dev"):
            with pytest.raises(grpc.aio.AioRpcError):
                _ = [item async for item in channel.unary_stream(STREAM)(b"")]
            async with asyncio.timeout(20):
                while routes.resolve("orders").outcome == "lane":
                    await checkpoint()
            items = [item async for item in channel.unary_stream(STREAM)(b"")]
            assert items[0] == b"dev"
    await base.stop(None)


async def test_asyncio_strict_servers_refuse_garbage() -> None:
    server, _, port = await start_async(b"base", mode="strict")
    async with connect_async(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(UNARY)(b"", metadata=(("x-lane", "D"),))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/orders/Nothing")(b"")
    await server.stop(None)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("orders:9000", ("orders", 9000)),
        ("dns:///orders:9000", ("orders", 9000)),
        ("dns:orders:9000", ("orders", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        ("unix:/tmp/x", ("", 0)),
        ("ipv4:10.0.0.1:80", ("", 0)),
        ("xds:///orders", ("", 0)),
        ("orders", ("orders", 0)),
    ],
)
def test_the_host_in_a_target(target: str, parts: tuple[str, int]) -> None:
    assert parse_target(target) == parts


def test_a_subscriber_is_subscribed_to_the_targets_own_channel() -> None:
    class Channel:
        """As much of a channel as a subscriber meets; a real one watches from a thread."""

        def __init__(self) -> None:
            self.calls: list[tuple[object, ...]] = []

        def subscribe(self, callback: object, try_to_connect: bool) -> None:
            self.calls.append((callback, try_to_connect))

        def unsubscribe(self, callback: object) -> None:
            self.calls.append((callback,))

        def close(self) -> None:
            self.calls.append(())

    inner: Any = Channel()
    with LaneChannel("orders:1", open_channel=lambda _: inner) as channel:
        channel.subscribe(print, try_to_connect=True)
        channel.unsubscribe(print)
    assert inner.calls == [(print, True), (print,), ()]


def test_an_error_of_the_service_is_no_absent_lane(servers: tuple[Server, Server]) -> None:
    base, dev = servers
    routes = router(base.port, dev.port)
    channel = LaneChannel(f"orders:{base.port}", routes)
    with channel, lane_scope("dev"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/orders/Nothing")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert routes.resolve("orders").outcome == "lane"


def test_a_stream_sent_to_nobody_marks_the_lane(servers: tuple[Server, Server]) -> None:
    base, _ = servers
    routes = router(base.port, closed_port())
    channel = LaneChannel(
        f"orders:{base.port}",
        routes,
        open_channel=lambda to: grpc.insecure_channel(to.replace("orders", "127.0.0.1")),
    )
    with channel, lane_scope("dev"):
        collect = channel.stream_unary("/orders/Collect")
        with pytest.raises(grpc.RpcError):
            collect(iter([b"a"]))
        assert collect(iter([b"a"])) == b"a,dev"


def test_a_stream_of_a_strict_lane_that_refuses_marks_the_lane_and_raises(
    servers: tuple[Server, Server],
) -> None:
    base, _ = servers
    routes = router(base.port, closed_port(), "strict")
    with LaneChannel(f"orders:{base.port}", routes) as channel, lane_scope("dev"):
        with pytest.raises(grpc.RpcError):
            list(channel.unary_stream(STREAM)(b""))
        until_unavailable(channel)
        assert routes.stats().unreachable_lanes == {("orders", "dev")}
        fresh = router(base.port, closed_port(), "strict")
        with (
            LaneChannel(f"orders:{base.port}", fresh) as other,
            pytest.raises(LaneUnavailableError),
        ):
            other.stream_unary("/orders/Collect")(iter([b"a"]))
    assert base.handlers.metadata == []


def until_unavailable(channel: LaneChannel) -> None:
    """A thread of gRPC marks the lane after the call has ended."""
    while True:
        try:
            channel.unary_stream(STREAM)(b"")
        except LaneUnavailableError:
            return


def test_channels_of_lanes_are_bounded(servers: tuple[Server, Server]) -> None:
    base, dev = servers
    lanes = {f"l{number}": {"name": f"lane-{number}", "port": dev.port} for number in range(200)}
    target = {"name": "127.0.0.1", "port": base.port}
    service = {"lanes": list(lanes), "base": target, "lane": lanes}
    routes = LaneRouter.from_document({"services": {"orders": service}})
    opened: list[str] = []

    def open_channel(to: str) -> grpc.Channel:
        opened.append(to)
        return grpc.insecure_channel(f"127.0.0.1:{dev.port}")

    with LaneChannel("orders", routes, open_channel=open_channel) as channel:
        call = channel.unary_unary(UNARY)
        for lane in lanes:
            with lane_scope(lane):
                assert call(b"") == b"dev:" + lane.encode()
        assert 0 < len(channel.lane_targets) <= 64
        assert 0 < call.cached_callables <= 65


async def test_asyncio_an_error_of_the_service_is_no_absent_lane() -> None:
    base, _, base_port = await start_async(b"base")
    dev, _, dev_port = await start_async(b"dev")
    routes = router(base_port, dev_port)
    async with AsyncLaneChannel(f"orders:{base_port}", routes) as channel:
        with lane_scope("dev"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/orders/Nothing")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert routes.resolve("orders").outcome == "lane"
            assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    await base.stop(None)
    await dev.stop(None)


def secure_router(https: int) -> LaneRouter:
    base = {"name": "127.0.0.1", "port": 8000, "ports": {"http": 8000, "https": https}}
    return LaneRouter.from_document({"services": {"orders": {"lanes": [], "base": base}}})


def test_a_secure_channel_without_a_port_goes_to_the_one_published_for_tls() -> None:
    port = closed_port()
    instrument(secure_router(port))
    channel: Any = grpc.secure_channel("orders", grpc.ssl_channel_credentials())
    with channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(UNARY)(b"", timeout=5)
    assert channel.lane_targets == (f"127.0.0.1:{port}",)


async def test_a_secure_async_channel_without_a_port_goes_to_the_one_published_for_tls() -> None:
    port = closed_port()
    instrument(secure_router(port))
    channel: Any = grpc.aio.secure_channel("orders", grpc.ssl_channel_credentials())
    async with channel:
        with pytest.raises(grpc.RpcError):
            await channel.unary_unary(UNARY)(b"", timeout=5)
        assert channel.lane_targets == (f"127.0.0.1:{port}",)
