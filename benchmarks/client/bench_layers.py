"""What the extra `fast` stands on: transports compared, calls per second to those of bare httpx.

    python benchmarks/client/bench_layers.py [--rounds 5] [--smoke]

Each sends 32 requests at once to three uvicorn processes, through the transport alone. httpx-aiohttp
and pyreqwest are compared when they are installed; nothing here needs them:
`uv run --all-packages --all-extras --group bench --with httpx-aiohttp --with pyreqwest python ...`
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.client.running import instances, seconds_per_call
from benchmarks.report import Report, arguments

from microservice_client import ServicePolicy
from microservice_client.http.aiohttp_transport import AiohttpTransport

OTHERS = {
    "httpx-aiohttp": ("httpx_aiohttp", "AiohttpTransport"),
    "pyreqwest": ("pyreqwest.compatibility.httpx", "HttpxTransport"),
}


def transports() -> dict[str, Callable[[], httpx.AsyncBaseTransport]]:
    """What is installed."""
    found: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
        "httpx": httpx.AsyncHTTPTransport,
        "ours on aiohttp": lambda: AiohttpTransport(
            ServicePolicy(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ),
    }
    for name, (module, kind) in OTHERS.items():
        try:
            found[name] = getattr(importlib.import_module(module), kind)
        except ImportError:
            print(f"{name} is not installed")
    return found


async def measured(rounds: int) -> dict[str, list[float]]:
    ratios: dict[str, list[float]] = {}
    candidates = transports()
    async with instances([0, 0, 0]) as three, httpx.AsyncClient() as bare:
        turn = itertools.cycle(f"{one.url}/v1/orders/7" for one in three)
        for _ in range(rounds):
            floor = await seconds_per_call(lambda: bare.get(next(turn)), 400, 32)
            for name, make in candidates.items():
                async with make() as transport:

                    async def send(transport: httpx.AsyncBaseTransport = transport) -> None:
                        request = httpx.Request("GET", next(turn))
                        await (await transport.handle_async_request(request)).aread()

                    spent = await seconds_per_call(send, 1200, 32)
                ratios.setdefault(name, []).append(floor / spent)
    return ratios


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=5).parse_args())
    for name, values in asyncio.run(measured(report.rounds)).items():
        report.add(f"{name}, calls per second", values)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
