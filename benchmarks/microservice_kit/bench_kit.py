"""What microservice-kit costs, as ratios in one run; each line carries its bound.

make bench P=microservice-kit
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

from microservice_core import InMemoryConfigCenter
from microservice_kit import ConfigCenterValue, MicroserviceModule

SERVED = Path(__file__).with_name("served.py")
ROUNDS = 7
TURNS = 300
BATCH = 30


def report(what: str, ratios: list[float], bound: float, unit: str = "x") -> None:
    middle = statistics.median(ratios)
    verdict = "holds" if middle <= bound else "MISSED"
    spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
    print(
        f"{what:58} {middle:8.3g} {unit}  ({spread})  bound {bound:g} {unit}: {verdict}", flush=True
    )


class Reader:
    value = ConfigCenterValue("app.json", "db.pool", default=5, type=int)

    def __init__(self) -> None:
        self._plain = 7

    @property
    def plain(self) -> int:
        return self._plain


async def reading() -> None:
    center = InMemoryConfigCenter({"app.json": '{"db": {"pool": 7}}'})
    async with MicroserviceModule(config_center=center, documents=["app.json"]):
        reader = Reader()
        assert reader.value == 7

        def cost(statement: str) -> float:
            return min(timeit.repeat(statement, globals={"r": reader}, number=200_000, repeat=3))

        ratios = [cost("r.value") / cost("r.plain") for _ in range(ROUNDS)]
    report("ConfigCenterValue, read, against a property", ratios, 1.5)


def note(moments: list[float], _: object) -> None:
    moments.append(time.perf_counter())


async def spreading() -> None:
    """500 keys of one document change; every value attribute shows it."""
    keys = [f"k{number}" for number in range(500)]
    values = type(
        "Values", (), {key: ConfigCenterValue("many.json", key, default=-1) for key in keys}
    )
    center = InMemoryConfigCenter({"many.json": json.dumps(dict.fromkeys(keys, 0))})
    took = []
    async with MicroserviceModule(config_center=center, documents=["many.json"]) as module:
        one = values()
        for number in range(1, 2 * ROUNDS):
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
    report("500 keys changed, until every reader shows them", took, 50, "ms")


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


def one_start() -> list[float]:
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
        turns = [in_any_order(apps) for _ in range(TURNS)]
    return [
        100 * (statistics.median(turn[app] / turn[apps[0]] for turn in turns) - 1)
        for app in apps[1:]
    ]


def in_any_order(apps: list[socket.socket]) -> dict[socket.socket, float]:
    return {app: seconds_per_request(app) for app in random.sample(apps, len(apps))}


def serving() -> None:
    again, off, on = zip(*(one_start() for _ in range(ROUNDS)), strict=True)
    report("all middleware, telemetry off, time a request", list(off), 5, "%")
    spread = f"{min(again):.2g} to {max(again):.2g}"
    print(
        f"{'what is noise of it: bare against bare':58} {statistics.median(again):8.2g} %  ({spread})"
    )
    print(f"{'the same with SDK and Prometheus (no bound)':58} {statistics.median(on):8.3g} %")


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


def starting() -> None:
    """Each start in a process of its own, imports included: what a restarted service pays."""

    def seconds(program: str) -> float:
        return float(printed(STARTED + program))

    report(
        "start-up added, embedded providers, with imports",
        [seconds(WITH_KIT) - seconds(BARE) for _ in range(ROUNDS)],
        0.25,
        "s",
    )
    ready, stall = zip(
        *([float(one) for one in printed(PREPARED).split()] for _ in range(ROUNDS)), strict=True
    )
    print(f"{'after it: service client imported in a thread, in (no bound)':58} ", end="")
    print(f"{statistics.median(ready):.2g} s, longest stall {statistics.median(stall):.2g} s")


def importing() -> None:
    heavy = (
        "dependency_injector httpx yaml lane_router microservice_client opentelemetry cryptography"
    )
    program = f"import sys, microservice_kit; print(len(set({heavy.split()!r}) & set(sys.modules)))"
    report("packages imported that nobody asked for", [float(printed(program))], 0, "")


def printed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


def main() -> None:
    runs: tuple[Callable[[], None], ...] = (
        lambda: asyncio.run(reading()),
        lambda: asyncio.run(spreading()),
        importing,
        starting,
        serving,
    )
    for run in runs:
        run()


if __name__ == "__main__":
    main()
