"""Memory of a registry that follows a cluster, the price of watchers, leases and outages.

    make bench P=lite-registry [ARGS=--smoke]

The API server is a stand-in on loopback without TLS that answers lists and holds watches open.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.lite_registry.running import Program, connect, registry
from benchmarks.report import Report, arguments

from lite_registry.http import Answer, Request
from lite_registry.http_client import HttpClient
from lite_registry.listener import HttpListener
from lite_registry.response import StreamResponse, json_response


class StandIn:
    """So many Services and EndpointSlices, as large as real ones."""

    def __init__(self, services: int, endpoints: int) -> None:
        managed = [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}] * 8
        self.items: dict[str, list[dict[str, object]]] = {
            "services": [
                {
                    "metadata": self._meta(n, {"app": f"s{n}"}) | {"managedFields": managed},
                    "spec": {"ports": [{"name": "http", "port": 8000}], "selector": {"a": "b"}},
                }
                for n in range(services)
            ],
            "endpointslices": [
                {
                    "metadata": self._meta(n, {"kubernetes.io/service-name": f"s{n}"}),
                    "endpoints": [
                        {
                            "addresses": [f"10.{n // 250}.{n % 250}.{i}"],
                            "conditions": {"ready": True},
                            "targetRef": {"kind": "Pod", "name": f"s{n}-7d4b9c6f5-{i:05}"},
                        }
                        for i in range(endpoints)
                    ],
                }
                for n in range(services)
            ],
        }
        self.listener = HttpListener(self.handle)

    @staticmethod
    def _meta(n: int, labels: dict[str, str]) -> dict[str, object]:
        name = f"s{n}"
        return {"name": name, "namespace": "shop", "uid": f"{n:036}", "labels": labels}

    def handle(self, request: Request) -> Answer:
        url = urlsplit(request.target.decode())
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if "watch" in query:
            return StreamResponse(self._silence(), "application/json")
        items = self.items[url.path.rpartition("/")[2]]
        begin, limit = int(query.get("continue", "0")), int(query["limit"])
        meta = {"resourceVersion": "1"}
        if begin + limit < len(items):
            meta["continue"] = str(begin + limit)
        page = items[begin : begin + limit]
        return json_response(200, {"metadata": meta, "items": page})

    async def _silence(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


def kubeconfig(folder: Path, port: int) -> str:
    file = folder / "config"
    context = {"cluster": "c", "user": "u", "namespace": "shop"}
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    file.write_text(json.dumps(document))
    return str(file)


async def ready(program: Program) -> float:
    client, began = HttpClient(f"http://{program.host}:{program.port}"), time.perf_counter()
    while (await client.ask("GET", "/readyz")).status != 200:
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def memory(report: Report, folder: Path, services: int, endpoints: int) -> None:
    stand_in = StandIn(services, endpoints)
    port = await stand_in.listener.listen("127.0.0.1", 0)
    config = kubeconfig(folder, port)
    with registry("--source", "kubernetes", "--kubeconfig", config, "--store", "none") as program:
        await ready(program)
        await HttpClient(f"http://{program.host}:{program.port}").ask("GET", "/v1/routes")
        await asyncio.sleep(1)
        name = f"resident with {services} services, {services * endpoints} endpoints"
        report.add(name, [program.resident_mib], unit="MiB")
    await stand_in.listener.close(0)


async def start_with_a_snapshot(report: Report, folder: Path) -> None:
    stand_in, snapshot = StandIn(60, 3), folder / "snapshot.json"
    port = await stand_in.listener.listen("127.0.0.1", 0)
    config = kubeconfig(folder, port)
    arguments = ["--source", "kubernetes", "--kubeconfig", config, "--snapshot", str(snapshot)]
    with registry(*arguments) as program:
        await ready(program)
        await asyncio.sleep(0.5)
    await stand_in.listener.close(0)
    took = []
    for _ in range(report.count(5, 1)):
        began = time.perf_counter()
        with registry(*arguments) as program:
            await ready(program)
            took.append(time.perf_counter() - began)
    report.add("process start to ready with a snapshot", took, unit="s")


async def refused(report: Report, folder: Path, seconds: float) -> None:
    with registry("--source", "kubernetes", "--kubeconfig", kubeconfig(folder, 1)) as program:
        await asyncio.sleep(1)
        before = program.processor_seconds
        await asyncio.sleep(seconds)
        spent = program.processor_seconds - before
        url = f"http://{program.host}:{program.port}"
        metrics = (await HttpClient(url).ask("GET", "/metrics")).body.decode()
        attempts = sum(
            int(n) for n in re.findall(r"(?:list_failures|watch_restarts)_total.* (\d+)", metrics)
        )
        name = f"API server refuses for {seconds:.0f} s"
        report.add(f"{name}: of one core", [100 * spent / seconds], unit="%")
        report.add(f"{name}: attempts", [attempts], unit="")


async def watchers(report: Report, count: int) -> None:
    with registry() as program:
        url = f"http://{program.host}:{program.port}"
        client = HttpClient(url)
        document = {"ip": "10.0.0.1", "port": 80, "ttl_seconds": 600}
        await client.ask("PUT", "/v1/instances/orders/a", document=document)
        before = program.resident_mib
        version = (await client.ask("GET", "/v1/instances/orders")).json()["version"]
        target = f"/v1/instances/orders?watch=1&version={version}&timeout=300s"
        waiting = await connect(program, target, count)
        asked = asyncio.gather(*(one.ask() for one in waiting))
        while b"watchers %d" % count not in (await client.ask("GET", "/metrics")).body:
            await asyncio.sleep(0.05)
        each = (program.resident_mib - before) * 1024 / count
        began = time.perf_counter()
        await client.ask("PUT", "/v1/instances/orders/a", document=document | {"weight": 2})
        await asked
        took = time.perf_counter() - began
        report.add(f"{count} watchers, each", [each], unit="KiB")
        report.add(f"{count} watchers, all answered after a PUT", [took * 1000], unit="ms")


async def leases(report: Report, count: int, seconds: float) -> None:
    with registry() as program:
        client = HttpClient(f"http://{program.host}:{program.port}")
        for number in range(count):
            document = {"ip": "10.0.0.1", "port": 80, "ttl_seconds": 60}
            await client.ask("PUT", f"/v1/instances/s{number % 500}/i{number}", document=document)
        connections = await connect(program, "/healthz", 50)
        rate = count / seconds
        before, began, tasks = program.processor_seconds, time.perf_counter(), []
        for number in range(count):
            one = connections[number % 50]
            path = f"/v1/instances/s{number % 500}/i{number}/renew"
            one.request = f"POST {path} HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n".encode()
            one.length = 0
            one.answer = b""
            tasks.append(one.ask())
            await tasks.pop()
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        took = time.perf_counter() - began
        spent = program.processor_seconds - before
        share = 100 * spent / took
        report.add(f"{count} leases renewed in {took:.1f} s: of one core", [share], unit="%")


async def measure(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await memory(report, folder, 60, 3)
        await memory(report, folder, report.count(2000, 200), 3)
        await start_with_a_snapshot(report, folder)
        await watchers(report, report.count(1000, 50))
        await leases(report, report.count(10_000, 200), report.choose(10.0, 1.0))
        await refused(report, folder, report.choose(60.0, 1.0))


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=1).parse_args())
    asyncio.run(measure(report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
