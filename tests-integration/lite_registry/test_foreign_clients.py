"""HTTP clients that offer an upgrade to HTTP/2 with each request."""

import asyncio
import json
import shutil
from pathlib import Path

from required_servers import skip_without

from lite_registry import LiteRegistryServer
from lite_registry.http_client import HttpClient

DOCUMENT = json.dumps({"ip": "10.0.0.7", "port": 8000})


async def run(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        skip_without(command[0], f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode().splitlines()


async def test_the_client_of_the_jdk_registers_renews_and_lists() -> None:
    async with LiteRegistryServer(port=0) as server:
        program = Path(__file__).with_name("JavaClient.java")
        lines = await run("java", str(program), server.url)
        expected = ["PUT 201 HTTP_1_1", "POST 204 HTTP_1_1"] * 20
        assert lines == [*expected, "GET 200 HTTP_1_1", "DELETE 204 HTTP_1_1"]
        listed = (await HttpClient(server.url).request("GET", "/v1/instances/orders")).json()
        assert len(str(listed["instances"]).split("'id'")) == 1 + 19


async def test_curl_that_offers_http2_registers_with_one_connection() -> None:
    async with LiteRegistryServer(port=0) as server:
        command = ["curl", "--silent", "--http2", "--write-out", "%{http_code} %{num_connects}\n"]
        put = ["--output", "/dev/null", "--request", "PUT", "--data", DOCUMENT]
        first, second = f"{server.url}/v1/instances/orders/a", f"{server.url}/v1/instances/orders/b"
        lines = await run(*command, *put, first, "--next", *command[1:], *put, second)
        assert lines == ["201 1", "201 0"]
