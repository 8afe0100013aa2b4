"""What microservice-kit costs, as ratios in one run; each line carries its bound.

make bench P=microservice-kit [ARGS=--smoke]
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_core import InMemoryConfigCenter
from microservice_kit import ConfigCenterValue, MicroserviceModule

SERVED = Path(__file__).with_name("served.py")
TURNS = 300
BATCH = 30


class Reader:
    value = ConfigCenterValue("app.json", "db.pool", default=5, type=int)

    def __init__(self) -> None:
        self._plain = 7

    @property
    def plain(self) -> int:
        return self._plain


async def reading(report: Report) -> None:
    center = InMemoryConfigCenter({"app.json": '{"db": {"pool": 7}}'})
    async with MicroserviceModule(config_center=center, documents=["app.json"]):
        reader = Reader()
        assert reader.value == 7

        def cost(statement: str) -> float:
            return min(timeit.repeat(statement, globals={"r": reader}, number=200_000, repeat=3))

        ratios = [cost("r.value") / cost("r.plain") for _ in range(report.rounds)]
    report.add("ConfigCenterValue, read, against a property", ratios, bound=1.5)


def note(moments: list[float], _: object) -> None:
    moments.append(time.perf_counter())


async def spreading(report: Report) -> None:
    """500 keys of one document change; every value attribute shows it."""
    keys = [f"k{number}" for number in range(500)]
    values = type(
        "Values", (), {key: ConfigCenterValue("many.json", key, default=-1) for key in keys}
    )
    center = InMemoryConfigCenter({"many.json": json.dumps(dict.fromkeys(keys, 0))})
    took = []
    async with MicroserviceModule(config_center=center, documents=["many.json"]) as module:
        one = values()
        for number in range(1, 2 * report.rounds):
            delivered: list[float] = []
            stop = center.watch_config("many.json", partial(note, delivered))
            await asyncio.sleep(0.01)
            delivered.clear()
            await center.publish_config("many.json", json.dumps(dict.fromkeys(keys, number)))
            while any(getattr(one, key) != number for key in keys):
                await asyncio.sleep(0)
            took.append(1000 * (time.perf_counter() - delivered[0]))
            stop()
        assert module.config.problem is None
    report.add("500 keys changed, until every reader shows them", took, unit="ms", bound=50)


@contextlib.contextmanager
def served(*variants: str) -> Iterator[list[socket.socket]]:
    """A connection to each of the applications, all in one process."""
    ports = [free_port() for _ in variants]
    wanted = [f"{variant}:{port}" for variant, port in zip(variants, ports, strict=True)]
    program = subprocess.Popen([sys.executable, str(SERVED), *wanted], stderr=subprocess.DEVNULL)
    try:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(connected(port)) for port in ports]
    finally:
        program.terminate()
        program.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def connected(port: int) -> socket.socket:
    for _ in range(500):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        time.sleep(0.05)
    raise SystemExit("the server did not start")


def seconds_per_request(connection: socket.socket, requests: int = BATCH) -> float:
    began = time.perf_counter()
    connection.sendall(b"GET /orders/7 HTTP/1.1\r\nhost: bench\r\n\r\n" * requests)
    answers = b""
    while answers.count(b"HTTP/1.1 200") < requests:
        more = connection.recv(65536)
        if not more:
            raise SystemExit("the server closed the connection")
        answers += more
    return (time.perf_counter() - began) / requests


@contextlib.contextmanager
def on_processor(number: int) -> Iterator[None]:
    """This process, and what is started meanwhile, on one processor; where there are two."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def one_start(turns_wanted: int) -> list[float]:
    """What a second bare application, the kit and telemetry cost a request, in percent of a bare.

    All are asked in turn, some milliseconds each, and each turn gives a ratio of its own: what the
    machine does meanwhile falls on all alike. All but telemetry, which is global, live in one
    process, since where a process happens to lie in memory makes more of a difference than the kit.
    """
    with contextlib.ExitStack() as stack:
        with on_processor(0):
            apps = stack.enter_context(served("bare", "bare", "kit"))
            apps += stack.enter_context(served("telemetry"))
        stack.enter_context(on_processor(1))
        for app in apps:
            seconds_per_request(app, 1000)
        turns = [in_any_order(apps) for _ in range(turns_wanted)]
    return [
        100 * (statistics.median(turn[app] / turn[apps[0]] for turn in turns) - 1)
        for app in apps[1:]
    ]


def in_any_order(apps: list[socket.socket]) -> dict[socket.socket, float]:
    return {app: seconds_per_request(app) for app in random.sample(apps, len(apps))}


def serving(report: Report) -> None:
    turns = report.count(TURNS, 10)
    again, off, on = zip(*(one_start(turns) for _ in range(report.rounds)), strict=True)
    report.add("all middleware, telemetry off, time a request", off, unit="%", bound=5)
    report.add("what is noise of it: bare against bare", again, unit="%")
    report.add("the same with SDK and Prometheus", on, unit="%")


STARTED = """
import asyncio, time
from fastapi import FastAPI
async def life(app):
    async with app.router.lifespan_context(app):
        print(time.perf_counter() - began)
began = time.perf_counter()
"""
WITH_KIT = """
from microservice_kit import Microservice
micro = Microservice(
    service_name="bench", port=1, service_registry="memory", config_center="memory"
)
asyncio.run(life(FastAPI(lifespan=micro.lifespan)))
"""
BARE = "asyncio.run(life(FastAPI()))"
PREPARED = """
import asyncio, time
from microservice_kit import MicroserviceModule
async def main():
    async with MicroserviceModule(service_registry="memory", config_center="memory") as module:
        began = last = time.perf_counter()
        longest = 0.0
        while not module.parts.service_client.is_open:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    print(last - began, longest)
asyncio.run(main())
"""


def starting(report: Report) -> None:
    """Each start in a process of its own, imports included: what a restarted service pays."""

    def seconds(program: str) -> float:
        return float(printed(STARTED + program))

    added = [seconds(WITH_KIT) - seconds(BARE) for _ in range(report.rounds)]
    name = "start-up added, embedded providers, with imports"
    report.add(name, added, unit="s", bound=0.25)
    ready, stall = zip(
        *([float(one) for one in printed(PREPARED).split()] for _ in range(report.rounds)),
        strict=True,
    )
    report.add("after it: service client imported in a thread, in", ready, unit="s")
    report.add("the longest stall of the loop meanwhile", stall, unit="s")


def importing(report: Report) -> None:
    heavy = (
        "dependency_injector httpx yaml lane_router microservice_client opentelemetry cryptography"
    )
    program = f"import sys, microservice_kit; print(len(set({heavy.split()!r}) & set(sys.modules)))"
    found = [float(printed(program))]
    report.add("packages imported that nobody asked for", found, unit="", bound=0)


def printed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=7).parse_args())
    runs: tuple[Callable[[], None], ...] = (
        lambda: asyncio.run(reading(report)),
        lambda: asyncio.run(spreading(report)),
        lambda: importing(report),
        lambda: starting(report),
        lambda: serving(report),
    )
    for run in runs:
        run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
