"""Cached `/v1/routes` on keep-alive against uvicorn with a raw ASGI app that serves the same bytes.

    make bench P=lite-registry [ARGS=--smoke]

One process each, in turns, the client in a third. The ratio is that of the processor time per
request, which other programs on the machine disturb least; requests per second are shown beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.lite_registry.running import Program, connect, load, registry
from benchmarks.report import Report, arguments

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


FLOOR = """
import select, socket, sys
ANSWER = open(sys.argv[1], "rb").read()
door = socket.create_server(("127.0.0.1", 0))
print("http://127.0.0.1:%d" % door.getsockname()[1], flush=True)
poll, open_ = select.epoll(), {door.fileno(): door}
poll.register(door, select.EPOLLIN)
while True:
    for number, _ in poll.poll():
        if number == door.fileno():
            client, _ = door.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        elif open_[number].recv(65536):
            open_[number].sendall(ANSWER)
        else:
            poll.unregister(number)
            open_.pop(number).close()
"""


def latencies(program: Program, *, rate: int, seconds: float) -> list[float]:
    """Milliseconds per request, at that many requests per second over 20 connections.

    The client blocks, and spins until the next request is due: with an event loop its own turns,
    and the waking of a processor that slept, would be measured along.
    """
    request = b"GET /v1/routes HTTP/1.1\r\nhost: bench\r\n\r\n"
    connections = [socket.create_connection((program.host, program.port)) for _ in range(20)]
    length = 0
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        length = len(head) + 4 + size
        _receive(connection, size - len(body))
    took, began = [], time.perf_counter()
    for number in range(int(rate * seconds)):
        due, connection = began + number / rate, connections[number % 20]
        while (sent := time.perf_counter()) < due:
            pass
        connection.sendall(request)
        _receive(connection, length)
        took.append((time.perf_counter() - sent) * 1000)
    for connection in connections:
        connection.close()
    return sorted(took)


def _receive(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(65536))


@contextmanager
def apart(programs: Iterable[Program]) -> Iterator[None]:
    """The programs on one processor and this client on another, where there are two."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) > 1:
        for program in programs:
            os.sched_setaffinity(program.process.pid, mine[:1])
        os.sched_setaffinity(0, mine[1:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)
        for program in programs:
            os.sched_setaffinity(program.process.pid, mine)


async def measure(report: Report, requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = ("r.json", "app.py", "body", "floor.py", "answer")
        file, app, body, floor, answer = (Path(folder) / name for name in names)
        file.write_text(json.dumps(ROUTES))
        app.write_text(ASGI)
        floor.write_text(FLOOR)
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
                for _ in range(report.rounds):
                    for name, program in programs.items():
                        each = requests // 64
                        measured[name].append(
                            await load(program, "/v1/routes", clients=64, each=each)
                        )
                answer.write_bytes(clients[0].answer[: clients[0].length])
                with Program(str(floor), str(answer)) as least:
                    add_latencies(report, {**programs, "recv and send": least})
            report.note(f"body {body.stat().st_size} bytes, 64 keep-alive connections")
            for name, rows in measured.items():
                rps, cost = ([row[i] for row in rows] for i in (0, 1))
                report.add(f"{name}: requests per second", rps, unit="rps", at_least=True)
                report.add(f"{name}: processor time per request", cost, unit="us")
            for name in ("uvicorn", "uvicorn+uvloop"):
                ratios = [
                    theirs[1] / ours[1]
                    for ours, theirs in zip(measured["lite-registry"], measured[name], strict=True)
                ]
                report.add(f"{name}'s processor time to ours", ratios, at_least=True)


def add_latencies(report: Report, programs: dict[str, Program]) -> None:
    """In turns, so that whatever disturbs the machine disturbs all of them."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    seconds = report.choose(2.0, 0.4)
    with apart(programs.values()):
        for _ in range(report.rounds):
            for name, program in programs.items():
                took = latencies(program, rate=500, seconds=seconds)
                measured[name].append((statistics.median(took), took[int(len(took) * 0.99)]))
    for name, rows in measured.items():
        report.add(f"{name}: median at 500 rps", [middle for middle, _ in rows], unit="ms")
        report.add(f"{name}: p99 at 500 rps to that", [late / middle for middle, late in rows])


def main() -> int:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--requests", type=int, help="of each server in each round (20000)")
    options = parser.parse_args()
    report = Report(__file__, options)
    asyncio.run(measure(report, options.requests or report.count(20_000, 1280)))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
