"""What callers notice when an instance dies, or becomes ten times slower.

    python benchmarks/client/bench_faults.py [--seconds 10] [--rounds 3] [--check] [--smoke]

Calls come at 200 per second whatever happens to the ones before. Three uvicorn processes answer
after 5 ms. Killed: one of them, by SIGKILL, in the middle; idempotent calls that failed are counted.
Slow: one of three answers after 50 ms; the 99th percentile against that of three healthy ones, called
at the same time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.client.running import instances
from benchmarks.report import Report, arguments

from microservice_client import AsyncServiceClient

RATE = 200
HEALTHY, SLOW = 0.005, 0.05


async def load(
    client: AsyncServiceClient, seconds: float, halfway: object = None
) -> tuple[list[float], int]:
    """Durations of the calls that were answered, and how many were not."""
    durations: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        began = time.perf_counter()
        try:
            (await client.get("orders", "/v1/orders/7")).raise_for_status()
        except httpx.HTTPError:
            failed += 1
        else:
            durations.append(time.perf_counter() - began)

    calls = []
    began = time.perf_counter()
    for number in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        calls.append(asyncio.create_task(one()))
        if callable(halfway) and number == int(seconds * RATE / 2):
            halfway()
    await asyncio.gather(*calls)
    return durations, failed


async def failures_when_one_is_killed(seconds: float) -> int:
    async with instances([HEALTHY] * 3) as three:
        addresses = {"orders": [one.url for one in three]}
        async with AsyncServiceClient.from_addresses(addresses) as client:
            _, failed = await load(client, seconds, three[0].process.kill)
    return failed


async def slowdown(seconds: float) -> float:
    """Both at the same time, so that whatever else the machine does meets both."""
    async with instances([HEALTHY] * 5 + [SLOW]) as six:
        urls = [one.url for one in six]
        async with (
            AsyncServiceClient.from_addresses({"orders": urls[:3]}) as all_well,
            AsyncServiceClient.from_addresses({"orders": urls[3:]}) as one_slow,
        ):
            await asyncio.gather(*(load(one, min(2, seconds)) for one in (all_well, one_slow)))
            well, slow = await asyncio.gather(load(all_well, seconds), load(one_slow, seconds))
    healthy, degraded = percentile_99(well[0]), percentile_99(slow[0])
    print(f"p99: {healthy * 1000:.1f} ms healthy, {degraded * 1000:.1f} ms with one slow")
    return degraded / healthy


def percentile_99(durations: list[float]) -> float:
    return sorted(durations)[int(len(durations) * 0.99)]


def main() -> int:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    report = Report(__file__, options)
    seconds = options.seconds or report.choose(10.0, 1.0)
    killed, slow = [], []
    for _ in range(report.rounds):
        killed.append(asyncio.run(failures_when_one_is_killed(seconds)))
        slow.append(asyncio.run(slowdown(seconds)))
    # One failure is one too many.
    worst = [float(max(killed))]
    report.add(
        "failed idempotent calls of one killed instance, 200/s", worst, unit="calls", bound=0
    )
    report.add("p99 with one instance 10 times slower", slow, bound=3.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
