from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from lane_router import (
    LaneClass,
    LaneClasses,
    LaneCounts,
    LaneWsgiMiddleware,
    current_lane,
    lane_scope,
)

Environ = dict[str, Any]


class App:
    """A WSGI application that remembers the lanes it ran in, the body's included."""

    def __init__(self, parts: int = 0) -> None:
        self.lanes: list[str | None] = []
        self.parts = parts
        self.closed = False

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        self.lanes.append(current_lane())
        start_response("200 OK", [])
        if environ.get("file"):
            return FileWrapper(BytesIO(b"file"))
        return self.body() if self.parts else [b"whole"]

    def body(self) -> Iterator[bytes]:
        try:
            for _ in range(self.parts):
                self.lanes.append(current_lane())
                yield b"part"
        finally:
            self.closed = True


def call(app: LaneWsgiMiddleware, environ: Environ) -> tuple[str, bytes]:
    status: list[str] = []

    def start_response(line: str, headers: list[tuple[str, str]]) -> Any:
        status.append(line)

    body = app(environ, start_response)
    content = b"".join(body)
    close = getattr(body, "close", None)
    if close:
        close()
    return status[0], content


def test_a_request_and_its_streamed_body_run_in_the_lane_the_header_names() -> None:
    app = App(parts=2)
    assert call(LaneWsgiMiddleware(app), {"HTTP_X_LANE": "dev"}) == ("200 OK", b"partpart")
    assert app.lanes == ["dev", "dev", "dev"]
    assert app.closed
    assert current_lane() is None


def test_without_a_header_in_no_lane_whatever_the_server_runs_in() -> None:
    app = App()
    with lane_scope("left-over"):
        assert call(LaneWsgiMiddleware(app), {}) == ("200 OK", b"whole")
    assert app.lanes == [None]


def test_baggage_is_read_as_well() -> None:
    app = App()
    call(LaneWsgiMiddleware(app), {"HTTP_BAGGAGE": "a=1,lane=dev"})
    assert app.lanes == ["dev"]


def test_a_file_goes_back_to_the_server_as_it_is() -> None:
    def start_response(line: str, headers: list[tuple[str, str]]) -> Any:
        """Nothing."""

    body = LaneWsgiMiddleware(App())(
        {"file": True, "wsgi.file_wrapper": FileWrapper}, start_response
    )
    assert isinstance(body, FileWrapper)


@pytest.mark.parametrize("value", ["", "Dev", "dev,dev", "a" * 9000, "d\xe9v"])
def test_garbage_counts_as_none_or_is_refused_in_strict_mode(value: str) -> None:
    app, counts = App(), LaneCounts()
    call(LaneWsgiMiddleware(app, observer=counts), {"HTTP_X_LANE": value})
    assert app.lanes == [None]
    assert counts.drops.total() == 1
    status, body = call(LaneWsgiMiddleware(app, mode="strict"), {"HTTP_X_LANE": value})
    assert status == "400 Bad Request"
    assert app.lanes == [None]
    assert len(value) < 3 or value.encode("latin-1") not in body


def test_closed_classes_refuse_a_lane_of_none() -> None:
    classes = LaneClasses(LaneClass("ppe-*"), otherwise="refuse")
    app = App()
    call(LaneWsgiMiddleware(app, classes=classes), {"HTTP_X_LANE": "dev"})
    call(LaneWsgiMiddleware(app, classes=classes), {"HTTP_X_LANE": "ppe-1"})
    assert app.lanes == [None, "ppe-1"]
