"""What a call by name costs, as ratios to bare httpx in this run.

    python benchmarks/client/bench_calls.py [--rounds 9] [--check] [--smoke]

Three uvicorn processes answer on loopback. In each round the candidates take turns, ten times, a
block of calls each; a figure is the median over the rounds, with the least and the greatest. `own cost` needs no socket:
CPU time of a call over instances in this process, against httpx calling an ASGI application in this
process. `--check` exits 1 when a bound does not hold.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from pathlib import Path

import httpx
from pydantic import BaseModel, TypeAdapter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.client.backend import BODY, HEADERS, app
from benchmarks.client.running import Call, instances, seconds_per_call
from benchmarks.report import Report, arguments

from microservice_client import AsyncServiceClient, service_call, service_client
from microservice_client.testing import FakeMesh

PATH = "/v1/orders/7"
CALLS = {1: 25, 32: 96}  # in a block
BLOCKS = 10


class Order(BaseModel):
    order_id: int
    state: str
    lines: list[int]


@service_client("orders")
class OrdersApi:
    client: AsyncServiceClient

    @service_call("GET", "/v1/orders/{order_id}")
    async def order(self, order_id: int) -> Order:
        raise NotImplementedError


ORDER = TypeAdapter(Order)


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=9).parse_args())
    asyncio.run(over_sockets(report))
    asyncio.run(in_process(report))
    return report.finish()


async def over_sockets(report: Report) -> None:
    same: dict[int, list[float]] = {n: [] for n in CALLS}
    own: dict[int, list[float]] = {n: [] for n in CALLS}
    fast: list[float] = []
    declared: list[float] = []
    async with instances([0, 0, 0]) as three:
        urls = [one.url for one in three]
        addresses = {"orders": urls}
        turn = itertools.cycle(f"{url}{PATH}" for url in urls)
        async with (
            httpx.AsyncClient() as bare,
            AsyncServiceClient.from_addresses(
                addresses, transport=httpx.AsyncHTTPTransport()
            ) as shared,
            AsyncServiceClient.from_addresses(addresses, connection_layer="httpx") as pooled,
            AsyncServiceClient.from_addresses(addresses, connection_layer="aiohttp") as quick,
        ):
            api = OrdersApi(quick)

            async def by_method() -> Order:
                response = await quick.get(
                    "orders", PATH, headers={"accept": "application/json"}, raise_on="errors"
                )
                return ORDER.validate_json(response.content)

            candidates: dict[str, Call] = {
                "bare": lambda: bare.get(next(turn)),
                "same": lambda: shared.get("orders", PATH),
                "own": lambda: pooled.get("orders", PATH),
                "fast": lambda: quick.get("orders", PATH),
            }
            for _ in range(report.rounds):
                for n, calls in CALLS.items():
                    spent = await taking_turns(candidates, calls, n)
                    same[n].append(spent["same"] / spent["bare"])
                    own[n].append(spent["own"] / spent["bare"])
                    if n == 32:
                        fast.append(spent["bare"] / spent["fast"])
                declared.append(
                    await alternating(lambda: api.order(7), by_method, report.count(1500, 100))
                )
    for n, values in same.items():
        report.add(f"default pipeline over httpx's transport, {n} at once", values, bound=1.08)
    for n, values in own.items():
        report.add(f"default pipeline, connections per instance, {n} at once", values, bound=1.08)
    report.add("extra `fast`: throughput, 32 at once", fast, bound=3.0, at_least=True)
    report.add("declarative call to the same call by method", declared, bound=1.03)


async def taking_turns(candidates: dict[str, Call], calls: int, at_once: int) -> dict[str, float]:
    """Wall time of each, in blocks that take turns so that the machine's other work meets all."""
    spent = dict.fromkeys(candidates, 0.0)
    for _ in range(BLOCKS):
        for name, call in candidates.items():
            spent[name] += await seconds_per_call(call, calls, at_once)
    return spent


async def alternating(one: Call, other: Call, calls: int) -> float:
    """How much longer one takes than the other, call by call so that the machine meets both."""
    spent = [0.0, 0.0]
    for _ in range(calls):
        for at, call in enumerate((one, other)):
            began = time.perf_counter()
            await call()
            spent[at] += time.perf_counter() - began
    return spent[0] / spent[1]


async def in_process(report: Report) -> None:
    own = []
    mesh = FakeMesh()

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=HEADERS, content=BODY)

    for number in range(3):
        await mesh.start("orders", f"10.0.0.{number}:80", answer)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app)) as bare,
        AsyncServiceClient(mesh.registry, transport=mesh) as client,
    ):
        for _ in range(report.rounds):
            floor, called = await alternating_cpu(
                lambda: bare.get(f"http://orders{PATH}"), lambda: client.get("orders", PATH)
            )
            own.append(called / floor)
            mesh.requests.clear()
    report.add("own cost of a call over instances in this process (CPU)", own, bound=0.5)


async def alternating_cpu(one: Call, other: Call, blocks: int = 20) -> list[float]:
    """CPU time of both, in blocks that take turns."""
    gc.collect()
    spent = [0.0, 0.0]
    for _ in range(blocks):
        for at, call in enumerate((one, other)):
            began = time.process_time()
            for _ in range(100):
                await call()
            spent[at] += time.process_time() - began
    return spent


if __name__ == "__main__":
    sys.exit(main())
