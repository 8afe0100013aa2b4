"""The OpenAPI description and the server agree, for generated requests, right ones and wrong ones."""

import asyncio
import json
import threading
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth

from lite_registry import LiteRegistryServer, StaticRoutes
from lite_registry.routes import parse_routes

ROUTES = {"services": {"orders": {"lanes": ["dev"], "port": 8000}}}

schema = schemathesis.openapi.from_dict(
    json.loads(files("lite_registry").joinpath("openapi.json").read_bytes())
)
# The names of the interface may be of any script; other characters than these add nothing here.
schema.config.generation.update(codec="ascii", allow_x00=False)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server that runs in a thread."""
    with asyncio.Runner() as runner:
        server = LiteRegistryServer(port=0, source=StaticRoutes(parse_routes(ROUTES)))
        started, stop = threading.Event(), asyncio.Event()

        async def run() -> None:
            async with server:
                started.set()
                await stop.wait()

        thread = threading.Thread(target=runner.run, args=(run(),))
        thread.start()
        assert started.wait(10)
        yield server.url
        runner.get_loop().call_soon_threadsafe(stop.set)
        thread.join()


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_server_does_what_its_description_says(case: schemathesis.Case[Any], url: str) -> None:
    if "watch" in case.query:
        case.query["timeout"] = "0"  # nothing changes, and nothing is waited for
    # Writing needs a token only where the server has some; this one has none.
    case.call_and_validate(base_url=url, excluded_checks=[ignored_auth])
