"""10,000 clients that each wait for a change of the routes, as the pods of a large cluster do."""

import asyncio
import json
import os
import re
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from required_servers import skip_without

from lite_registry.http_client import HttpClient

WATCHERS = 10_000
MEMORY_LIMIT_KIB = 128 * 1024  # the limit of the manifests
CPU_LIMIT_SECONDS = 30.0
SERVICES = {f"service-{n}": {"lanes": ["dev"], "port": 8000} for n in range(2000)}


@pytest.fixture
def enough_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = WATCHERS + 512
    if hard != resource.RLIM_INFINITY and hard < needed:
        skip_without("open-files", f"a process may open only {hard} files here, not {needed}")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Server:
    """`lite-registry serve` in a process of its own."""

    def __init__(self, pid: int, url: str, file: Path) -> None:
        self.pid = pid
        self.url = url
        self.file = file

    @property
    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def publish(self, services: object) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"services": services}))
        new.replace(self.file)


@pytest.fixture
async def server(tmp_path: Path, enough_files: None) -> AsyncIterator[Server]:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"services": SERVICES}))
    command = ["serve", "--port", "0", "--source", "file", "--file", str(file), "--linger", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lite_registry", *command), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    url = re.search(r"http://\S+", line)
    assert url is not None, line
    yield Server(process.pid, url[0], file)
    process.terminate()
    await process.wait()


async def watch(server: Server, version: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.url.rpartition(":")[2])
    target = f"/v1/routes?watch=1&version={version}&since={version}&timeout=600s"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    response = await reader.read()
    writer.close()
    return response


async def wait_for_watchers(client: HttpClient, count: int) -> None:
    async with asyncio.timeout(120):
        while True:
            metrics = (await client.request("GET", "/metrics")).body
            if b"lite_registry_watchers %d\n" % count in metrics:
                return
            await asyncio.sleep(0.1)


async def test_10_000_watchers_fit_into_the_limits_of_the_manifests(server: Server) -> None:
    client = HttpClient(server.url)
    version = (await client.request("GET", "/v1/routes")).json()["version"]
    watches: list[asyncio.Task[bytes]] = []
    for first in range(0, WATCHERS, 500):
        watches += [asyncio.create_task(watch(server, str(version))) for _ in range(500)]
        await wait_for_watchers(client, first + 500)
    assert (await client.request("GET", "/healthz")).status == 200
    waiting_kib, before = server.resident_kib, server.cpu_seconds
    server.publish({**SERVICES, "service-7": {"lanes": [], "port": 8000}})
    async with asyncio.timeout(120):
        responses = await asyncio.gather(*watches)
    used = server.cpu_seconds - before
    print(f"\n{waiting_kib / 1024:.1f} MiB with {WATCHERS} watchers, {used:.1f} s of CPU a change")
    assert all(response.startswith(b"HTTP/1.1 200 OK") for response in responses)
    assert all(b'"since":' in response for response in responses)
    assert max(map(len, responses)) < 1024
    assert max(waiting_kib, server.resident_kib) < MEMORY_LIMIT_KIB
    assert used < CPU_LIMIT_SECONDS
