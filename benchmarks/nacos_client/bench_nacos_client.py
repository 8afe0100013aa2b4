"""What nacos-client costs: import, memory, one read, many beats, many watches.

    python benchmarks/nacos_client/bench_nacos_client.py [--smoke] [import|memory|get|beats|watches|changes] ...

`get`, `beats` and `watches` use the server of NACOS_SERVER_ADDR, or a fake in a process of its
own when there is none. `import` also measures nacos-sdk-python when a Python that has it is named
in NACOS_SDK_PYTHON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))

FAKE = """
import sys, time
from nacos_client.testing import FakeNacosServer
server = FakeNacosServer(username="nacos", password="nacos")
server.start()
print(server.address, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Server:
    """Where to measure."""

    address: str
    username: str
    password: str
    kind: str


@contextlib.contextmanager
def a_server() -> Iterator[Server]:
    """The real server if one is named, else a fake in another process."""
    if address := os.environ.get("NACOS_SERVER_ADDR"):
        user, password = os.environ["NACOS_USERNAME"], os.environ["NACOS_PASSWORD"]
        yield Server(address, user, password, "real Nacos")
        return
    with subprocess.Popen(
        [sys.executable, "-c", FAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip(), "nacos", "nacos", "fake")
        process.terminate()


def bench_import(report: Report) -> None:
    """Seconds and resident memory of an import, over a bare interpreter."""
    probe = (
        "import time,resource;b=time.perf_counter();{line};"
        "print(time.perf_counter()-b,resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)"
    )
    cases = [
        ("bare interpreter", sys.executable, "pass"),
        ("httpx and pydantic", sys.executable, "import httpx,pydantic"),
        ("nacos_client", sys.executable, "import nacos_client"),
    ]
    if other := os.environ.get("NACOS_SDK_PYTHON"):
        cases.append(("nacos-sdk-python", other, "from v2 import nacos"))
    medians = {}
    for name, python, line in cases:
        runs = [
            subprocess.run(
                [python, "-c", probe.format(line=line)], capture_output=True, text=True, check=True
            ).stdout.split()
            for _ in range(2 + report.rounds)
        ]
        times = [float(seconds) for seconds, _ in runs[2:]]
        memory = [float(megabytes) for _, megabytes in runs[2:]]
        medians[name] = statistics.median(times)
        report.add(f"import, {name}", times, unit="s")
        report.add(f"import, {name}, RSS", memory, unit="MB")
    if "nacos-sdk-python" in medians:
        ratio = medians["nacos_client"] / medians["nacos-sdk-python"]
        report.add("import, ratio to nacos-sdk-python", [ratio])


def bench_memory(report: Report) -> None:
    """Resident memory after connecting and one read, in a process of its own."""
    code = (
        "import sys,resource\n"
        "from nacos_client import NacosClient\n"
        "with NacosClient(sys.argv[1],username=sys.argv[2],password=sys.argv[3]) as nacos:\n"
        "    nacos.naming.instances('nobody')\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)"
    )
    with a_server() as server:
        runs = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code, server.address, server.username, server.password],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(report.count(5, 1))
        ]
    report.add(f"RSS after connect ({server.kind})", runs, unit="MB")


def bench_get(report: Report) -> None:
    """One read through the client and through bare httpx, alternating in one run."""
    import httpx

    from nacos_client import AsyncNacosClient, NacosClient

    name = f"bench-{uuid.uuid4().hex}.yaml"
    with a_server() as server:
        credentials = {"username": server.username, "password": server.password}
        base = f"http://{server.address}/nacos"
        login = httpx.post(f"{base}/v3/auth/user/login", data=credentials, trust_env=False)
        headers = {"Authorization": f"Bearer {login.json()['accessToken']}"}
        query = {"dataId": name, "groupName": "DEFAULT_GROUP", "namespaceId": "public"}
        path = f"{base}/v3/client/cs/config"
        with (
            NacosClient(
                server.address, username=server.username, password=server.password
            ) as nacos,
            httpx.Client(trust_env=False) as plain,
        ):
            nacos.admin.publish(name, "a: 1\n" * 100)
            time.sleep(0.5)
            ours, theirs = [], []
            for _ in range(report.count(15, 1)):
                ours.append(per_call(lambda: nacos.config.get(name)))
                theirs.append(
                    per_call(lambda: plain.get(path, params=query, headers=headers).json())
                )
            add_reads(report, "sync", server, ours, theirs)
            asyncio.run(get_async(report, AsyncNacosClient, server, name, path, query, headers))
            nacos.admin.delete(name)


async def get_async(report, client_type, server, name, path, query, headers) -> None:  # type: ignore[no-untyped-def]  # noqa: PLR0917
    import httpx

    ours, theirs = [], []
    async with (
        client_type(server.address, username=server.username, password=server.password) as nacos,
        httpx.AsyncClient(trust_env=False) as plain,
    ):
        for _ in range(report.count(15, 1)):
            began = time.perf_counter()
            for _ in range(100):
                await nacos.config.get(name)
            middle = time.perf_counter()
            for _ in range(100):
                (await plain.get(path, params=query, headers=headers)).json()
            ours.append((middle - began) * 10)
            theirs.append((time.perf_counter() - middle) * 10)
    add_reads(report, "async", server, ours, theirs)


def per_call(call, rounds: int = 100) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds of one call."""
    began = time.perf_counter()
    for _ in range(rounds):
        call()
    return (time.perf_counter() - began) * 1000 / rounds


def add_reads(
    report: Report, kind: str, server: Server, ours: list[float], theirs: list[float]
) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    report.add(f"get, {kind} client ({server.kind})", ours, unit="ms")
    report.add(f"get, {kind} bare httpx ({server.kind})", theirs, unit="ms")
    report.add(f"get, {kind} client to bare httpx ({server.kind})", ratios)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def bench_beats(report: Report) -> None:
    """1,000 instances of one process: share of a core, and how late beats are."""
    from nacos_client import AsyncNacosClient

    service, instances = f"bench-{uuid.uuid4().hex}", report.count(1000, 50)
    with a_server() as server:
        async with AsyncNacosClient(
            server.address, username=server.username, password=server.password
        ) as nacos:
            await asyncio.gather(
                *(
                    nacos.naming.register(service, f"10.1.{n // 250}.{n % 250}", 80)
                    for n in range(instances)
                )
            )
            await asyncio.sleep(report.choose(6, 1))
            before, cpu, began = nacos.naming.beat_status, cpu_seconds(), time.monotonic()
            await asyncio.sleep(report.choose(SECONDS, 6))
            status, passed = nacos.naming.beat_status, time.monotonic() - began
            share = (cpu_seconds() - cpu) / passed
            alive = len(await nacos.naming.instances(service, healthy_only=True))
            report.note(
                f"{instances} instances ({server.kind}), {passed:.0f} s: {status.failed} failed, "
                f"{status.reregistered} registered again, {alive} healthy at the end"
            )
            name = f"{instances} instances ({server.kind})"
            report.add(f"{name}: of one core", [100 * share], unit="%")
            report.add(f"{name}: beats", [(status.sent - before.sent) / passed], unit="/s")
            lag = [status.worst_lag_seconds]  # allowed: 1.2 intervals
            report.add(f"{name}: latest beat after its time", lag, unit="s", bound=1.0)


async def bench_watches(report: Report) -> None:
    """1,000 watched documents: idle share of a core, and time from publish to listener."""
    from nacos_client import AsyncNacosClient, Config

    mark, watches = uuid.uuid4().hex, report.count(1000, 50)
    changed = report.count(200, 20)
    names = [f"bench-{mark}-{number}.yaml" for number in range(watches)]
    heard: dict[str, float] = {}

    def listener(config: Config) -> None:
        heard[config.data_id] = time.monotonic()

    with a_server() as server:
        credentials: dict[str, Any] = {"username": server.username, "password": server.password}
        for poll_seconds in (report.choose(15.0, 2.0), 1.0):
            async with AsyncNacosClient(
                server.address, config_poll_seconds=poll_seconds, **credentials
            ) as nacos:
                await in_turns(nacos.admin.publish(name, "a: 0") for name in names)
                await asyncio.sleep(1)
                heard.clear()
                for name in names:
                    nacos.config.watch(name, listener)
                while len(heard) < watches:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(poll_seconds)
                cpu, began = cpu_seconds(), time.monotonic()
                await asyncio.sleep(max(report.choose(SECONDS / 2, 1.0), 2 * poll_seconds))
                share = (cpu_seconds() - cpu) / (time.monotonic() - began)
                heard.clear()
                published = {}
                for name in names[:changed]:
                    await nacos.admin.publish(name, f"a: {poll_seconds}")
                    published[name] = time.monotonic()
                while len(heard) < changed:
                    await asyncio.sleep(0.05)
                delays = sorted(heard[name] - published[name] for name in published)
                name = f"{watches} watches ({server.kind}) every {poll_seconds:g} s"
                late = [delays[int(len(delays) * 0.99) - 1]]
                report.add(f"{name}: idle, of one core", [100 * share], unit="%")
                report.add(f"{name}: change to listener", delays, unit="s")
                report.add(f"{name}: 99th percentile of it", late, unit="s")
                await in_turns(nacos.admin.delete(name) for name in names)


async def in_turns(calls: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Sixteen at a time."""
    gate = asyncio.Semaphore(16)

    async def one(call: Coroutine[Any, Any, Any]) -> None:
        async with gate:
            await call

    await asyncio.gather(*map(one, calls))


async def bench_changes(report: Report) -> None:
    """10,000 changes of one document: memory stays flat."""
    from nacos_client import AsyncNacosClient

    heard, changes = 0, report.count(10_000, 500)

    def listener(_: object) -> None:
        nonlocal heard
        heard += 1

    with a_server() as server:
        async with AsyncNacosClient(
            server.address,
            username=server.username,
            password=server.password,
            config_poll_seconds=0.01,
        ) as nacos:
            nacos.config.watch("bench-changes.yaml", listener)
            sizes = []
            for number in range(changes):
                await nacos.admin.publish("bench-changes.yaml", f"a: {number}\n" * 50)
                if number % (changes // 10) == changes // 10 - 1:
                    sizes.append(resident())
            await nacos.admin.delete("bench-changes.yaml")
            name = f"{changes:,} changes ({server.kind})"
            report.add(f"{name}: heard", [heard], unit="")
            report.add(f"{name}: resident after a tenth of them", [sizes[0]], unit="MB")
            report.add(f"{name}: resident after all", [sizes[-1]], unit="MB")


def resident() -> float:
    """Resident memory now in MB (Linux)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 1e6


BENCHES: dict[str, Callable[[Report], None]] = {
    "import": bench_import,
    "memory": bench_memory,
    "get": bench_get,
    "beats": lambda report: asyncio.run(bench_beats(report)),
    "watches": lambda report: asyncio.run(bench_watches(report)),
    "changes": lambda report: asyncio.run(bench_changes(report)),
}


def main() -> int:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(BENCHES)}")
    options = parser.parse_args()
    report = Report(__file__, options)
    for name in options.parts or list(BENCHES):
        BENCHES[name](report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
