import io
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    Interceptor,
    ResendRequest,
    ServicePolicy,
)
from microservice_client.testing import FakeMesh

BAD, GOOD = "10.0.0.1:80", "10.0.0.2:80"
CONTENT = b"x" * 100_000


class Pipe(io.BytesIO):
    """A file that cannot be rewound."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0:
            raise io.UnsupportedOperation("seek")
        return super().seek(offset, whence)


async def chunks() -> AsyncIterator[bytes]:
    yield CONTENT


def closed() -> io.BytesIO:
    file = io.BytesIO(CONTENT)
    file.close()
    return file


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    mesh.bodies = []  # type: ignore[attr-defined]

    def respond(status: int) -> Callable[[httpx.Request], httpx.Response]:
        def handle(request: httpx.Request) -> httpx.Response:
            mesh.bodies.append(request.content)  # type: ignore[attr-defined]
            return httpx.Response(status)

        return handle

    await mesh.start("files", BAD, respond(503))
    await mesh.start("files", GOOD, respond(200))
    return mesh


def open_client(mesh: FakeMesh, **fields: Any) -> AsyncServiceClient:
    policy = ServicePolicy(
        attempts=2, balancer="round_robin", breaker_failures=100, backoff_seconds=0, **fields
    )
    return AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy)


@pytest.mark.parametrize("fault", ["503", "reset"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: {"files": {"f": CONTENT}},
        lambda: {"files": {"f": ("a.txt", io.BytesIO(CONTENT))}, "data": {"a": "b"}},
        lambda: {"files": {"f": CONTENT, "g": ("a", "text"), "h": io.BytesIO(CONTENT)}},
    ],
    ids=["bytes", "file", "mixed"],
)
async def test_an_upload_is_tried_elsewhere_with_all_of_its_content(
    mesh: FakeMesh, fault: str, make: Callable[[], dict[str, Any]]
) -> None:
    if fault == "reset":
        mesh.fail(BAD, "reset")
    async with open_client(mesh) as client:
        for _ in range(4):
            assert (await client.put("files", "/", **make())).status_code == 200
    assert len({len(body) for body in mesh.bodies}) == 1  # type: ignore[attr-defined]
    assert all(CONTENT in body for body in mesh.bodies)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "make",
    [lambda: {"files": {"f": Pipe(CONTENT)}}, lambda: {"content": chunks()}],
    ids=["pipe", "iterator"],
)
async def test_a_body_that_can_be_sent_once_says_so(
    mesh: FakeMesh, make: Callable[[], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_client(mesh) as client:
        statuses = {(await client.put("files", "/", **make())).status_code for _ in range(2)}
        assert statuses == {503, 200}
        assert caplog.text.count("its body cannot be sent a second time") == 1
        mesh.fail(BAD, "reset")
        mesh.fail(GOOD, "reset")
        with pytest.raises(
            CallFailedError, match="its body cannot be sent a second time"
        ) as caught:
            await client.put("files", "/", **make())
    assert len(caught.value.attempts) == 1


async def test_a_file_that_is_closed_is_an_error_of_its_own(mesh: FakeMesh) -> None:
    async with open_client(mesh) as client:
        with pytest.raises(ValueError, match="closed file"):
            await client.put("files", "/", files={"f": closed()})


async def test_a_call_that_is_not_idempotent_is_not_repeated(mesh: FakeMesh) -> None:
    async with open_client(mesh) as client:
        statuses = [
            (await client.post("files", "/", files={"f": CONTENT})).status_code for _ in range(2)
        ]
    assert sorted(statuses) == [200, 503]


async def test_a_file_is_not_read_by_two_attempts_at_the_same_time(mesh: FakeMesh) -> None:
    mesh.fail(BAD, "hang")
    hedging = {"hedge_after_seconds": 0.01, "attempt_timeout_seconds": 0.2}
    async with open_client(mesh, **hedging) as client:
        for _ in range(2):
            file = io.BytesIO(CONTENT)
            assert (await client.put("files", "/", files={"f": file})).status_code == 200
            assert len(client.recent_calls()[0].attempts) <= 2
    assert all(CONTENT in body for body in mesh.bodies)  # type: ignore[attr-defined]


async def test_an_interceptor_may_resend_an_upload(mesh: FakeMesh) -> None:
    class Resend(Interceptor):
        def on_response(
            self, request: httpx.Request, response: httpx.Response
        ) -> ResendRequest | None:
            return ResendRequest() if response.status_code == 503 else None

    async with open_client(mesh, retry_statuses=[]) as client:
        for _ in range(2):
            response = await client.put("files", "/", files={"f": CONTENT}, interceptors=[Resend()])
            assert response.status_code == 200
