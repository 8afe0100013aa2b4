"""Cached `/v1/routes` on keep-alive against uvicorn with a raw ASGI app that serves the same bytes.

    make bench P=lite-registry

One process each, in turns, the client in a third. The ratio is that of the processor time per
request, which other programs on the machine disturb least; requests per second are shown beside it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lite_registry.running import Program, connect, load, registry

ROUTES = {"services": {f"service-{n}": {"port": 8000, "lanes": ["dev"]} for n in range(9)}}

ASGI = """
import asyncio, sys, uvicorn
BODY = open(sys.argv[1], "rb").read()
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})
config = uvicorn.Config(app, port=0, loop=sys.argv[2], http="httptools", access_log=False,
                        log_level="warning", lifespan="off")
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("http://127.0.0.1:%d" % self.servers[0].sockets[0].getsockname()[1], flush=True)
Server(config).run()
"""


async def latencies(program: Program, *, rate: int, seconds: float) -> list[float]:
    """Milliseconds per request, at that many requests per second over 20 connections."""
    clients = await connect(program, "/v1/routes", 20)
    took: list[float] = []

    async def one(client: object) -> None:
        began = time.perf_counter()
        await client.ask()  # type: ignore[attr-defined]
        took.append((time.perf_counter() - began) * 1000)

    tasks, began = [], time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(clients[number % 20])))
    await asyncio.gather(*tasks)
    return sorted(took)


async def main(requests: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, app, body = (Path(folder) / name for name in ("r.json", "app.py", "body"))
        file.write_text(json.dumps(ROUTES))
        app.write_text(ASGI)
        with registry("--file", str(file)) as lite:
            clients = await connect(lite, "/v1/routes", 1)
            await clients[0].ask()
            body.write_bytes(clients[0].answer.partition(b"\r\n\r\n")[2])
            with (
                Program(str(app), str(body), "asyncio") as plain,
                Program(str(app), str(body), "uvloop") as fast,
            ):
                programs = {"lite-registry": lite, "uvicorn": plain, "uvicorn+uvloop": fast}
                measured: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
                for _ in range(rounds):
                    for name, program in programs.items():
                        each = requests // 64
                        measured[name].append(
                            await load(program, "/v1/routes", clients=64, each=each)
                        )
                await tell_latencies(programs, rounds)
            print(f"body {body.stat().st_size} bytes, 64 keep-alive connections, {rounds} rounds")
            for name, rows in measured.items():
                rps, cost = ([row[i] for row in rows] for i in (0, 1))
                print(
                    f"{name:15} {statistics.median(rps):8.0f} rps   {statistics.median(cost):6.1f} us"
                    f" processor time per request ({min(cost):.1f} to {max(cost):.1f})"
                )
            for name in ("uvicorn", "uvicorn+uvloop"):
                ratios = [
                    theirs[1] / ours[1]
                    for ours, theirs in zip(measured["lite-registry"], measured[name], strict=True)
                ]
                print(
                    f"lite-registry is {statistics.median(ratios):.2f}x {name} "
                    f"({min(ratios):.2f} to {max(ratios):.2f})"
                )


async def tell_latencies(programs: dict[str, Program], rounds: int) -> None:
    for name, program in programs.items():
        await tell_latency(name, program, rounds)


async def tell_latency(name: str, program: Program, rounds: int) -> None:
    """The ratio in the quietest round is the program's own; the others show the machine's."""
    ratios, medians = [], []
    for _ in range(rounds):
        took = await latencies(program, rate=500, seconds=2.0)
        medians.append(took[len(took) // 2])
        ratios.append(took[int(len(took) * 0.99)] / medians[-1])
    print(
        f"{name:15} 500 rps: median {statistics.median(medians):.2f} ms, p99 "
        f"{statistics.median(ratios):.1f}x that ({min(ratios):.1f}x to {max(ratios):.1f}x)"
    )


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    asyncio.run(main(*(arguments + [20_000, 5][len(arguments) :])))
