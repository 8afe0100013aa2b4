import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane_router import (
    LaneClass,
    LaneClasses,
    LaneCounts,
    LaneMiddleware,
    current_lane,
    lane_scope,
)
from microservice_core import InvalidValueError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]


class App:
    """An ASGI application that remembers the lane it ran in."""

    def __init__(self) -> None:
        self.lanes: list[str | None] = []

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self.lanes.append(current_lane())
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})


async def call(app: LaneMiddleware, scope: Scope) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def http(*values: bytes, name: bytes = b"x-lane") -> Scope:
    return {"type": "http", "headers": [(name, value) for value in values]}


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_request_runs_in_the_lane_its_header_names(kind: str) -> None:
    app = App()
    await call(LaneMiddleware(app), {**http(b"dev", name=b"X-Lane"), "type": kind})
    assert app.lanes == ["dev"]
    assert current_lane() is None


async def test_a_request_without_the_header_runs_in_no_lane_whatever_the_server_runs_in() -> None:
    app = App()
    with lane_scope("left-over"):
        await call(LaneMiddleware(app), http())
    assert app.lanes == [None]


async def test_the_header_can_have_another_name() -> None:
    app = App()
    await call(LaneMiddleware(app, header="x-colour"), http(b"dev", name=b"x-colour"))
    assert app.lanes == ["dev"]


GARBAGE = [(b"",), (b"Dev",), (b"d v",), (b"\xff",), (b"a" * 9000,), (b"a,b",), (b"dev", b"dev")]


@pytest.mark.parametrize("values", GARBAGE)
async def test_garbage_and_duplicates_count_as_no_lane(values: tuple[bytes, ...]) -> None:
    app = App()
    (response,) = await call(LaneMiddleware(app), http(*values))
    assert app.lanes == [None]
    assert response["headers"] == []


@pytest.mark.parametrize("values", GARBAGE)
async def test_in_strict_mode_they_are_refused_and_never_reflected(
    values: tuple[bytes, ...],
) -> None:
    app = App()
    start, body = await call(LaneMiddleware(app, mode="strict"), http(*values))
    assert app.lanes == []
    assert start["status"] == 400
    assert not any(value and value in body["body"] for value in values if len(value) > 3)


async def test_in_strict_mode_a_websocket_with_garbage_is_closed() -> None:
    app = App()
    scope = {**http(b"Dev"), "type": "websocket"}
    assert await call(LaneMiddleware(app, mode="strict"), scope) == [
        {"type": "websocket.close", "code": 1008, "reason": "invalid lane"}
    ]
    assert app.lanes == []


async def test_lifespan_passes_untouched() -> None:
    app = App()
    with lane_scope("outer"):
        await call(LaneMiddleware(app, mode="strict"), {"type": "lifespan"})
    assert app.lanes == ["outer"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"header": "X-Lane"}, "header must be a header name in lower case"),
        ({"header": "x_lane"}, "header must be a header name in lower case, without _"),
        ({"header": "x lane"}, "header must be"),
        ({"mode": "lenient"}, "mode must be 'permissive' or 'strict', not 'lenient'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        LaneMiddleware(App(), **options)


@given(st.lists(st.binary(max_size=80), max_size=3))
async def test_whatever_clients_send_the_application_sees_a_valid_lane_or_none(
    values: list[bytes],
) -> None:
    app = App()
    await call(LaneMiddleware(app), http(*values))
    (lane,) = app.lanes
    assert lane is None or [lane.encode()] == values


async def test_the_lane_is_read_from_baggage_too_and_the_two_have_to_agree() -> None:
    app, counts = App(), LaneCounts()
    lanes = LaneMiddleware(app, observer=counts)
    await call(lanes, http(b"a=1,lane=dev", name=b"baggage"))
    both = {"type": "http", "headers": [(b"x-lane", b"dev"), (b"Baggage", b"lane=test")]}
    await call(lanes, both)
    assert app.lanes == ["dev", None]
    assert counts.drops == {"conflict": 1}
    start, _ = await call(LaneMiddleware(app, mode="strict"), both)
    assert start["status"] == 400


async def test_a_lane_of_no_class_is_refused_where_classes_are_closed() -> None:
    app, counts = App(), LaneCounts()
    classes = LaneClasses(LaneClass("ppe-*"), otherwise="refuse")
    await call(LaneMiddleware(app, classes=classes, observer=counts), http(b"dev"))
    await call(LaneMiddleware(app, classes=classes, observer=counts), http(b"ppe-one"))
    assert app.lanes == [None, "ppe-one"]
    assert counts.drops == {"refused": 1}


async def test_trap_9_of_the_original_what_clients_send_is_not_remembered() -> None:
    import gc
    import sys

    middleware = LaneMiddleware(App(), observer=LaneCounts(most=10))
    gc.collect()
    before = sys.getallocatedblocks()
    for number in range(2000):
        await call(middleware, http(f"lane-{number}".encode(), name=b"x-ctx-%d" % number))
    gc.collect()
    assert sys.getallocatedblocks() - before < 4000


async def test_what_clients_send_is_cached_for_a_few_only() -> None:
    app = App()
    middleware = LaneMiddleware(app)
    for number in range(3000):
        scope = http(b"lane=dev,n=%d" % number, name=b"baggage")
        await call(middleware, scope)
    await call(middleware, http(b"lane=dev," + b"x" * 2000, name=b"baggage"))
    assert set(app.lanes) == {"dev"}
    assert 0 < middleware.cached_readings <= 1024


async def test_two_headers_of_one_name_are_one_too_many_in_either_carrier() -> None:
    app = App()
    two = {"type": "http", "headers": [(b"baggage", b"lane=dev"), (b"baggage", b"lane=dev")]}
    await call(LaneMiddleware(app), two)
    await call(LaneMiddleware(app), http(b"dev", b"dev"))
    assert app.lanes == [None, None]


async def test_servers_see_an_asgi_3_application() -> None:
    app = App()
    entry_point = LaneMiddleware(app).__call__  # what they look at, and what some of them call
    assert inspect.iscoroutinefunction(entry_point)

    async def ignore(_: Message) -> None: ...

    async def silent() -> Message:
        return {}

    await entry_point({"type": "http", "headers": [(b"x-lane", b"dev")]}, silent, ignore)
    await entry_point({"type": "lifespan"}, silent, ignore)
    assert app.lanes == ["dev", None]
