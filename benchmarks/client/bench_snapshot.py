"""Memory of the discovery snapshot: 2,000 services with 10 instances each.

    python benchmarks/client/bench_snapshot.py [--check] [--smoke]

Counted by tracemalloc: the instances as a registry hands them over, the snapshot's entries and
watches; and the same with the state of every service that was called once.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_client import AsyncServiceClient
from microservice_core import InstanceQuery, InstancesListener, ServiceInstance, Unsubscribe

SERVICES, INSTANCES = 2000, 10
EVERYTHING = InstanceQuery()


class Fleet:
    """A registry that makes its answers anew, as one does that reads them from a server."""

    async def get_instances(
        self, service_name: str, query: InstanceQuery = EVERYTHING, /
    ) -> Sequence[ServiceInstance]:
        return [
            ServiceInstance(
                service_name,
                f"10.{number}.0.1",
                8080,
                metadata={"version": "1.2.3", "zone": f"z{number % 3}"},
            )
            for number in range(INSTANCES)
        ]

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = EVERYTHING, /
    ) -> Unsubscribe:
        return lambda: None


class Answering(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b""))


async def measured(services: int) -> tuple[float, float]:
    names = [f"service-{number}" for number in range(services)]
    async with AsyncServiceClient(Fleet(), transport=Answering()) as client:
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await client.warm_up(names)
        gc.collect()
        snapshot, _ = tracemalloc.get_traced_memory()
        for name in names:
            await client.get(name, "/")
        gc.collect()
        called, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return (snapshot - before) / 1e6, (called - before) / 1e6


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=1).parse_args())
    services = report.count(SERVICES, 100)
    snapshot, called = asyncio.run(measured(services))
    name = f"{services} services x {INSTANCES} instances in the snapshot"
    report.add(name, [snapshot], unit="MB", bound=40)
    report.add("with balancers, breakers and limits after one call each", [called], unit="MB")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
