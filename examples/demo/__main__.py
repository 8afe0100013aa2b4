"""`make demo`: the main job of the toolkit, in about twenty seconds, as a newcomer meets it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from rich.console import Console

from .backends import Backend, Embedded, Nacos
from .processes import DemoError, Process, Processes, check_ports
from .screen import WIDTH, Screen
from .traffic import Traffic

INSTANCES = (
    {"version": "1.0", "lane": ""},
    {"version": "2.0", "lane": ""},
    {"version": "2.0", "lane": "dev"},
)
FIRST_GREETING, SECOND_GREETING = "hello", "welcome"
PATIENCE_SECONDS = 20.0


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--nacos", metavar="HOST:PORT", help="use a real Nacos 3")
    parser.add_argument("--port", type=int, default=7080, help="first of five ports (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("--picture", metavar="FILE", help="save the last screen as an SVG")
    parser.add_argument(
        "--act-seconds", type=float, default=4.0, help="traffic before each event (%(default)s)"
    )
    return parser.parse_args()


class Demo:
    """The play: start everyone, send traffic, kill one, change a setting, count."""

    def __init__(self, options: argparse.Namespace, folder: Path, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        first = options.port
        self._ports = {"lite-registry": first, "gateway": first + 1}
        self._ports |= {f"orders-{n}": first + 1 + n for n in range(1, len(INSTANCES) + 1)}
        if options.nacos:
            del self._ports["lite-registry"]
        self._backend: Backend = Nacos(options.nacos) if options.nacos else Embedded(folder, first)
        self._processes = Processes(folder)
        self._instances: list[Process] = []
        self._took_effect: float | None = None
        self._breakers: dict[str, str] = {}

    async def play(self) -> bool:
        """The whole play; whether everything came out as promised."""
        check_ports(self._ports)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._processes.stop)
            await self._set_the_stage(stack)
            gateway = f"http://127.0.0.1:{self._ports['gateway']}"
            traffic = Traffic(gateway)
            background = [
                asyncio.create_task(traffic.run()),
                asyncio.create_task(self._keep_showing(traffic, gateway)),
            ]
            try:
                await self._acts(traffic)
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
            return self._verdict(traffic)

    async def _set_the_stage(self, stack: AsyncExitStack) -> None:
        await self._backend.open(self._processes, stack)
        self._screen.event(f"registry and configuration: {self._backend.title}")
        await self._backend.write(FIRST_GREETING)
        for number, labels in enumerate(INSTANCES, start=1):
            process = await self._service(f"orders-{number}", "orders", labels)
            self._instances.append(process)
        gateway = await self._service("gateway", "gateway", {})
        for process in self._instances:
            await self._processes.ready(process, "/v1/orders/0")
        # They register once they listen, and the gateway hears of it a moment later.
        await self._processes.ready(gateway, f"/known/{len(self._instances)}")
        await self._processes.ready(gateway, "/orders/0")
        self._screen.event("three instances of orders and a gateway are up, 50 calls/s go in")

    async def _service(self, name: str, module: str, labels: dict[str, str]) -> Process:
        environment = {
            **self._backend.environment(),
            "MICROSERVICE_HOST": "127.0.0.1",
            "MICROSERVICE_PORT": str(self._ports[name]),
            "MICROSERVICE_LEAVE_SECONDS": "0.2",  # nobody new asks when all end at once
            **{f"MICROSERVICE_{key.upper()}": value for key, value in labels.items() if value},
        }
        program = ["-m", f"examples.demo.{module}"]
        return await self._processes.start(name, self._ports[name], program, environment, labels)

    async def _acts(self, traffic: Traffic) -> None:
        await asyncio.sleep(self._options.act_seconds)
        victim = self._instances[0]
        victim.child.kill()
        self._screen.event(f"{victim.name} is killed (no goodbye, as in a crash)", "bold red")
        await asyncio.sleep(self._options.act_seconds)
        await self._backend.write(SECOND_GREETING)
        published = time.monotonic()
        self._screen.event(f"orders.yaml now says: greeting: {SECOND_GREETING}", "bold cyan")
        await self._until_all_greet_anew(traffic)
        self._took_effect = time.monotonic() - published
        self._screen.event(f"every instance greets anew after {self._took_effect:.1f} s", "cyan")
        await asyncio.sleep(self._options.act_seconds)
        if self._options.keep:
            self._screen.event("traffic goes on; Ctrl-C ends it")
            await asyncio.Event().wait()

    async def _until_all_greet_anew(self, traffic: Traffic) -> None:
        alive = [process.port for process in self._instances if process.alive]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if all(traffic.tallies[port].greeting == SECOND_GREETING for port in alive):
                return
            await asyncio.sleep(0.02)
        raise DemoError(f"the new greeting did not arrive within {PATIENCE_SECONDS:.0f} s")

    async def _keep_showing(self, traffic: Traffic, gateway: str) -> None:
        reported: set[str] = set()
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    self._breakers = (await http.get(f"{gateway}/breakers")).json()
                for process in self._instances:
                    opened = self._breakers.get(process.address) == "open"
                    if opened and process.name not in reported:
                        reported.add(process.name)
                        text = f"the gateway's breaker of {process.name} opened: it is left alone"
                        self._screen.event(text, "yellow")
                self._screen.update(self._instances, traffic, self._breakers)
                await asyncio.sleep(0.15)

    def _verdict(self, traffic: Traffic) -> bool:
        good = traffic.failed == 0 and traffic.strayed == 0 and self._took_effect is not None
        counts = (
            f"{traffic.sent} calls, {traffic.failed} failed, {traffic.strayed} in the wrong lane"
        )
        self._screen.event(
            f"{'it held' if good else 'IT DID NOT HOLD'}: {counts}",
            "bold green" if good else "bold red",
        )
        for problem in traffic.problems:
            self._screen.event(problem, "red")
        self._screen.update(self._instances, traffic, self._breakers)
        return good


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Play it, on a terminal or in plain lines; SIGTERM and a closed terminal end it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in a task
    for ending in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    with tempfile.TemporaryDirectory(prefix="microservice-demo-") as folder:
        with Screen("the microservice toolkit", console) as screen:
            held = await Demo(options, Path(folder), screen).play()
        if options.picture:
            screen.picture(options.picture)
    return held


def main() -> int:
    """Exit code 0 when the play came out well, 1 when not, 2 when it could not be played."""
    logging.basicConfig(level=logging.CRITICAL)  # what matters is on the screen
    console = Console(width=WIDTH if sys.stdout.isatty() else None, soft_wrap=True)
    try:
        return 0 if asyncio.run(run(arguments(), console)) else 1
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; every process of the demo has ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
