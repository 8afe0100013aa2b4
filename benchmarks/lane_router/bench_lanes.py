"""Every speed bound of lane-router, as ratios within this run.

    python benchmarks/lane_router/bench_lanes.py [--rounds 15] [--idle-seconds 60] [--check]

Each figure is the median over the rounds, with the least and the greatest; floor and candidate are
timed in turns. `--check` exits 1 when a bound does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lane_router import LaneMiddleware, LaneRouter, instrument, lane_scope, uninstrument

HERE = Path(__file__).parent


@dataclass
class Row:
    """One bound and what was measured."""

    name: str
    bound: float
    unit: str
    values: list[float]

    def holds(self) -> bool:
        return median(self.values) <= self.bound

    def line(self) -> str:
        spread = f"({min(self.values):.3f} to {max(self.values):.3f})"
        verdict = "holds" if self.holds() else "OVER"
        figure = f"{median(self.values):8.3f} {self.unit:4} {spread:22}"
        return f"{self.name:52} {figure} <= {self.bound:g} {verdict}"


def timed(statement: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        statement()
    return (time.perf_counter() - began) / times


def loop_of(code: str, names: dict[str, Any], times: int = 50_000) -> Callable[[], float]:
    """Seconds per run of a statement, in a loop of its own: no call around it."""
    function: dict[str, Any] = {}
    exec(f"def run():\n for _ in range({times}):\n  {code}", names, function)  # noqa: S102
    run = function["run"]

    def seconds() -> float:
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began) / times

    return seconds


def resolve_row(rounds: int) -> list[Row]:
    services = {f"service-{n}": {"lanes": ["dev", "test"], "port": 8000} for n in range(1000)}
    router = LaneRouter.from_document({"services": services})
    table = {name: object() for name in services}
    names = {"table": table, "resolve": router.resolve, "key": "service-7"}
    floor = loop_of("table[key]", names)
    empty = loop_of("pass", names)
    rows = []
    for what, code in (
        ("resolve(service, lane)", "resolve(key, 'dev')"),
        ("resolve(service), lane of the context", "resolve(key)"),
        ("resolve(service, absent lane)", "resolve(key, 'other')"),
    ):
        candidate = loop_of(code, names)
        ratios = []
        with lane_scope("dev"):
            for _ in range(rounds):
                nothing = empty()
                ratios.append((candidate() - nothing) / (floor() - nothing))
        rows.append(Row(f"{what} / dict lookup", 15.0, "x", ratios))
    return rows


def ingress_row(rounds: int) -> Row:
    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    bare = Starlette(routes=[Route("/", hello)])
    wrapped = LaneMiddleware(bare)
    headers = [(b"host", b"orders"), (b"accept", b"*/*"), (b"user-agent", b"bench"),
               (b"x-lane", b"dev"), (b"baggage", b"user=7,lane=dev")]  # fmt: skip
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "scheme": "http",
             "raw_path": b"/", "query_string": b"", "root_path": "", "headers": headers,
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}  # fmt: skip

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        """Nothing."""

    async def seconds(app: Any, times: int = 2000) -> float:
        began = time.perf_counter()
        for _ in range(times):
            await app(dict(scope), receive, send)
        return (time.perf_counter() - began) / times

    async def run() -> list[float]:
        await seconds(bare)
        return [await seconds(wrapped) / await seconds(bare) - 1 for _ in range(rounds)]

    return Row("middleware, added to a bare Starlette call", 0.25, "x", asyncio.run(run()))


def egress_rows(rounds: int) -> list[Row]:
    with subprocess.Popen(
        [sys.executable, str(HERE / "hello_server.py")], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            return [_sync_egress(port, rounds), asyncio.run(_async_egress(port, rounds))]
        finally:
            server.terminate()


def _router(port: int) -> LaneRouter:
    target = {"name": "127.0.0.1", "port": port}
    service = {"lanes": ["dev"], "base": target, "lane": {"dev": target}}
    return LaneRouter.from_document({"services": {"orders": service}})


def _sync_egress(port: int, rounds: int, times: int = 300) -> Row:
    router = _router(port)
    ratios = []
    with httpx.Client(trust_env=False) as client, lane_scope("dev"):
        for number in range(rounds + 1):
            bare = timed(lambda: client.get(f"http://127.0.0.1:{port}/"), times)
            instrument(router, libraries=["httpx"])
            hooked = timed(lambda: client.get("http://orders/"), times)
            uninstrument()
            again = timed(lambda: client.get(f"http://127.0.0.1:{port}/"), times)
            if number:
                ratios.append((hooked / ((bare + again) / 2) - 1) * 100)
    return Row("routing and telling, added to an httpx.Client call", 3.0, "%", ratios)


async def _async_egress(port: int, rounds: int, times: int = 300) -> Row:
    router = _router(port)
    ratios = []

    async def seconds(client: httpx.AsyncClient, url: str) -> float:
        began = time.perf_counter()
        for _ in range(times):
            await client.get(url)
        return (time.perf_counter() - began) / times

    async with httpx.AsyncClient(trust_env=False) as client:
        with lane_scope("dev"):
            for number in range(rounds + 1):
                bare = await seconds(client, f"http://127.0.0.1:{port}/")
                instrument(router, libraries=["httpx"])
                hooked = await seconds(client, "http://orders/")
                uninstrument()
                again = await seconds(client, f"http://127.0.0.1:{port}/")
                if number:
                    ratios.append((hooked / ((bare + again) / 2) - 1) * 100)
    return Row("the same, added to an httpx.AsyncClient call", 3.0, "%", ratios)


def import_row(rounds: int) -> Row:
    def started(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    started("import lane_router")
    added = [(started("import lane_router") - started("pass")) * 1000 for _ in range(rounds)]
    return Row("import lane_router, over bare Python", 80.0, "ms", added)


def poller_row(seconds: float) -> Row:
    program = [sys.executable, str(HERE / "idle_poller.py"), str(seconds)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    shares = [float(line) for line in done.stdout.split()]
    return Row(f"poller of 2,000 routes, {seconds:g} s without a change", 0.1, "%CPU", shares)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, {platform.machine()}, median (least to greatest)")
    rows = []
    for measure in (
        lambda: resolve_row(options.rounds),
        lambda: [ingress_row(options.rounds)],
        lambda: egress_rows(options.rounds),
        lambda: [import_row(options.rounds)],
        lambda: [poller_row(options.idle_seconds)],
    ):
        for row in measure():
            rows.append(row)
            print(row.line(), flush=True)
    return 1 if options.check and not all(row.holds() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
