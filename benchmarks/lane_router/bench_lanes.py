"""Every speed bound of lane-router, as ratios within this run.

    python benchmarks/lane_router/bench_lanes.py [--rounds 15] [--idle-seconds 60] [--check] [--smoke]

Each figure is the median over the rounds, with the least and the greatest; floor and candidate are
timed in turns, so that a change of clock speed meets both, and in processor time, so that a busy
machine disturbs less. What an httpx call costs is the processor time of client and server together:
on an idle machine that is about how long it takes. `--check` exits 1 when a bound does not hold.
"""

from __future__ import annotations

import asyncio
import resource
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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.lite_registry.running import Program
from benchmarks.report import Report, arguments

from lane_router import LaneMiddleware, LaneRouter, instrument, lane_scope, uninstrument

HERE = Path(__file__).parent


@dataclass
class Row:
    """One bound and what was measured."""

    name: str
    bound: float
    unit: str
    values: list[float]


def loop_of(code: str, names: dict[str, Any], times: int = 50_000) -> Callable[[], float]:
    """Processor seconds per run of a statement in a loop, as timeit does it."""
    function: dict[str, Any] = {}
    exec(f"def run():\n for _ in range({times}):\n  {code}", names, function)  # noqa: S102
    run = function["run"]

    def seconds() -> float:
        began = time.process_time()
        run()
        return (time.process_time() - began) / times

    return seconds


def resolve_row(rounds: int) -> list[Row]:
    services = {f"service-{n}": {"lanes": ["dev", "test"], "port": 8000} for n in range(1000)}
    router = LaneRouter.from_document({"services": services})
    table = {name: object() for name in services}
    names = {"table": table, "resolve": router.resolve, "key": "service-7"}
    floor = loop_of("table[key]", names)
    rows = []
    for what, code in (
        ("resolve(service, lane)", "resolve(key, 'dev')"),
        ("resolve(service), lane of the context", "resolve(key)"),
        ("resolve(service, absent lane)", "resolve(key, 'other')"),
    ):
        candidate = loop_of(code, names)
        with lane_scope("dev"):
            ratios = [candidate() / floor() for _ in range(rounds)]
        rows.append(Row(f"{what} / dict lookup", 15.0, "x", ratios))
    return rows


def ingress_row(rounds: int) -> Row:
    async def hello(_request: Request) -> Response:
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
        began = time.process_time()
        for _ in range(times):
            await app(dict(scope), receive, send)
        return (time.process_time() - began) / times

    async def run() -> list[float]:
        await seconds(bare)
        return [await seconds(wrapped) / await seconds(bare) - 1 for _ in range(rounds)]

    return Row("middleware, added to a bare Starlette call", 0.25, "x", asyncio.run(run()))


def egress_rows(rounds: int) -> list[Row]:
    with Program(str(HERE / "hello_server.py")) as server:
        return [_sync_egress(server, rounds), asyncio.run(_async_egress(server, rounds))]


def _router(port: int) -> LaneRouter:
    target = {"name": "127.0.0.1", "port": port}
    service = {"lanes": ["dev"], "base": target, "lane": {"dev": target}}
    return LaneRouter.from_document({"services": {"orders": service}})


class Clocked:
    """What lies between a client and its transport, in processor seconds of each call.

    It is timed inside real calls, from where the client looks for a transport to where that
    transport begins, and from its end to where the client goes on: other programs on the machine
    disturb that little.
    """

    def __init__(self) -> None:
        self.between: list[float] = []
        self.inner = 0.0

    def on_top(self, kind: type, method: str) -> Callable[[], None]:
        """Put a clock around what finds the transport; what takes it away again."""
        below = kind._transport_for_url  # type: ignore[attr-defined]  # noqa: SLF001
        clocked = self

        def transport_for(client: Any, url: Any) -> Any:
            began = time.thread_time()
            return Outer(clocked, getattr(below(client, url), method), began)

        kind._transport_for_url = transport_for  # type: ignore[attr-defined]  # noqa: SLF001

        def take_away() -> None:
            kind._transport_for_url = below  # type: ignore[attr-defined]  # noqa: SLF001

        return take_away


class Outer:
    def __init__(self, clocked: Clocked, send: Any, began: float) -> None:
        self.clocked, self.send, self.began = clocked, send, began

    def handle_request(self, request: Any) -> Any:
        response = self.send(request)
        spent = time.thread_time() - self.began
        self.clocked.between.append(spent - self.clocked.inner)
        return response

    async def handle_async_request(self, request: Any) -> Any:
        response = await self.send(request)
        spent = time.thread_time() - self.began
        self.clocked.between.append(spent - self.clocked.inner)
        return response


class Inner(httpx.HTTPTransport):
    clocked: Clocked

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        began = time.thread_time()
        response = super().handle_request(request)
        self.clocked.inner = time.thread_time() - began
        return response


class AsyncInner(httpx.AsyncHTTPTransport):
    clocked: Clocked

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        began = time.thread_time()
        response = await super().handle_async_request(request)
        self.clocked.inner = time.thread_time() - began
        return response


@dataclass
class Block:
    """Some calls: what was between client and transport in the median, and what each cost."""

    between: float
    whole: float


def _row(name: str, server: float, blocks: list[tuple[Block, Block]]) -> Row:
    added = [(hooked.between - bare.between, bare.whole + server) for bare, hooked in blocks]
    print(
        f"  {name}: {median(one for one, _ in added) * 1e6:.1f} us "
        f"added to {median(whole for _, whole in added) * 1e6:.0f} us"
    )
    return Row(name, 3.0, "%", [one / whole * 100 for one, whole in added])


def _sync_egress(server: Program, rounds: int, times: int = 200) -> Row:
    router, before = _router(server.port), server.processor_seconds
    transport = Inner(trust_env=False)

    def block(client: httpx.Client, url: str) -> Block:
        transport.clocked = clocked = Clocked()
        take_away = clocked.on_top(httpx.Client, "handle_request")
        began = time.process_time()
        for _ in range(times):
            client.get(url)
        whole = (time.process_time() - began) / times
        take_away()
        return Block(median(clocked.between), whole)

    blocks = []
    with httpx.Client(transport=transport) as client, lane_scope("dev"):
        for _ in range(rounds):
            bare = block(client, f"http://127.0.0.1:{server.port}/")
            instrument(router, libraries=["httpx"])
            blocks.append((bare, block(client, "http://orders/")))
            uninstrument()
    behind = (server.processor_seconds - before) / (2 * times * rounds)
    return _row("routing and telling, added to an httpx.Client call", behind, blocks)


async def _async_egress(server: Program, rounds: int, times: int = 200) -> Row:
    router, before = _router(server.port), server.processor_seconds
    transport = AsyncInner(trust_env=False)

    async def block(client: httpx.AsyncClient, url: str) -> Block:
        transport.clocked = clocked = Clocked()
        take_away = clocked.on_top(httpx.AsyncClient, "handle_async_request")
        began = time.process_time()
        for _ in range(times):
            await client.get(url)
        whole = (time.process_time() - began) / times
        take_away()
        return Block(median(clocked.between), whole)

    blocks = []
    async with httpx.AsyncClient(transport=transport) as client:
        with lane_scope("dev"):
            for _ in range(rounds):
                bare = await block(client, f"http://127.0.0.1:{server.port}/")
                instrument(router, libraries=["httpx"])
                blocks.append((bare, await block(client, "http://orders/")))
                uninstrument()
    behind = (server.processor_seconds - before) / (2 * times * rounds)
    return _row("the same, added to an httpx.AsyncClient call", behind, blocks)


def import_row(rounds: int) -> Row:
    def started(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    started("import lane_router")
    added = [(started("import lane_router") - started("pass")) * 1000 for _ in range(rounds)]
    return Row("import lane_router, over bare Python", 80.0, "ms", added)


def poller_row(seconds: float) -> Row:
    program = [sys.executable, str(HERE / "idle_poller.py"), str(seconds)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    shares = [float(line) for line in done.stdout.split()]
    return Row(f"poller of 2,000 routes, {seconds:g} s without a change", 0.1, "%CPU", shares)


def main() -> int:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--idle-seconds", type=float)
    options = parser.parse_args()
    report = Report(__file__, options)
    idle_seconds = options.idle_seconds or report.choose(60.0, 1.0)
    for measure in (
        lambda: resolve_row(report.rounds),
        lambda: [ingress_row(report.rounds)],
        lambda: egress_rows(report.rounds),
        lambda: [import_row(report.rounds)],
        lambda: [poller_row(idle_seconds)],
    ):
        for row in measure():
            report.add(row.name, row.values, unit=row.unit, bound=row.bound)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
