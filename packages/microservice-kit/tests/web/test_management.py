"""What `/health` answers, and to whom."""

from collections.abc import Callable

import httpx
import pytest

from microservice_kit import Health
from microservice_kit.web.management import ManagementApp


async def request(health: Health, path: str, **options: object) -> httpx.Response:
    app = ManagementApp(health, token="s3cret")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        return await client.request(str(options.pop("method", "GET")), path, **options)  # type: ignore[arg-type]


def drains(health: Health) -> None:
    health.draining = True


def has_not_started(health: Health) -> None:
    health.started = False


def has_a_bad_check(health: Health) -> None:
    health.add("bad", lambda: 1 / 0)


def is_well(health: Health) -> None:
    pass


@pytest.mark.parametrize(
    ("path", "change", "status", "word"),
    [
        ("/health/live", drains, 200, "up"),
        ("/health/ready", is_well, 200, "up"),
        ("/health", is_well, 200, "up"),
        ("/health/ready", drains, 503, "out_of_service"),
        ("/health/ready", has_not_started, 503, "out_of_service"),
        ("/health", has_a_bad_check, 503, "down"),
    ],
)
async def test_probes_are_answered(
    path: str, change: Callable[[Health], None], status: int, word: str
) -> None:
    health = Health()
    health.started = True
    change(health)
    answer = await request(health, path)
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ({}, False),
        ({"authorization": "Bearer s3cret"}, True),
        ({"authorization": "Bearer x"}, False),
    ],
)
async def test_details_are_for_who_shows_the_token(header: dict[str, str], shown: bool) -> None:
    health = Health()
    health.started = True
    health.add("disk", lambda: "80 % free")
    body = (await request(health, "/health", headers=header)).json()
    assert ("checks" in body) is shown
    if shown:
        assert body["checks"]["disk"]["detail"] == "80 % free"


async def test_only_reading_is_allowed() -> None:
    assert (await request(Health(), "/health", method="POST")).status_code == 405
