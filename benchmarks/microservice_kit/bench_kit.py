"""What microservice-kit costs, as ratios in one run; each line carries its bound.

make bench P=microservice-kit
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
from fastapi import FastAPI

from microservice_core import InMemoryConfigCenter
from microservice_kit import ConfigCenterValue, Microservice, MicroserviceModule

SERVED = Path(__file__).with_name("served.py")
ROUNDS = 7
REQUESTS = 4000


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
    async with MicroserviceModule(config_center=center, documents=["many.json"]) as services:
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
        assert services.config.problem is None
    report("500 keys changed, until every reader shows them", took, 50, "ms")


@contextlib.contextmanager
def served(variant: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = subprocess.Popen([sys.executable, str(SERVED), variant, str(port)])
    try:
        for _ in range(500):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/orders/1", trust_env=False)
                break
            time.sleep(0.05)
        yield port
    finally:
        program.terminate()
        program.wait()


def seconds_per_request(port: int) -> float:
    """Processor time of the server for one request, by its own account."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        before = http.get("/spent").json()
        raw = socket.create_connection(("127.0.0.1", port))
        request = b"GET /orders/7 HTTP/1.1\r\nhost: bench\r\n\r\n"
        batch, size = 50, 0
        for _ in range(REQUESTS // batch):
            raw.sendall(request * batch)
            answered = 0
            while answered < batch:
                answered += raw.recv(65536).count(b"HTTP/1.1 200")
                size += 1
        raw.close()
        return float(http.get("/spent").json() - before) / REQUESTS


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


def one_start() -> tuple[float, float]:
    """What the kit costs a request, in percent: telemetry off and on; the best of four each.

    Where a process lies in memory makes some percent of difference: it takes several starts.
    """
    best: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        with on_processor(0):
            variants = ("bare", "kit", "telemetry")
            ports = {name: stack.enter_context(served(name)) for name in variants}
        stack.enter_context(on_processor(1))
        for _ in range(5):
            for name, port in ports.items():
                spent = seconds_per_request(port)
                best[name] = min(best.get(name, spent), spent)
    return 100 * (best["kit"] / best["bare"] - 1), 100 * (best["telemetry"] / best["bare"] - 1)


def serving() -> None:
    off, on = zip(*(one_start() for _ in range(ROUNDS)), strict=True)
    report("all middleware, telemetry off, processor time a request", list(off), 5, "%")
    print(
        f"{'the same with SDK and Prometheus (no bound)':58} {statistics.median(on):8.3g} %",
        flush=True,
    )


async def life(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        pass


def starting() -> None:
    def start_up() -> float:
        micro = Microservice(
            service_name="bench", port=1, service_registry="memory", config_center="memory"
        )
        began = time.perf_counter()
        asyncio.run(life(FastAPI(lifespan=micro.lifespan)))
        return time.perf_counter() - began

    def bare() -> float:
        began = time.perf_counter()
        asyncio.run(life(FastAPI()))
        return time.perf_counter() - began

    report(
        "start-up added, embedded providers",
        [start_up() - bare() for _ in range(ROUNDS)],
        0.25,
        "s",
    )


def importing() -> None:
    heavy = (
        "dependency_injector httpx yaml lane_router microservice_client opentelemetry cryptography"
    )
    program = f"import sys, microservice_kit; print(len(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    report("packages imported that nobody asked for", [float(done.stdout)], 0, "")


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
