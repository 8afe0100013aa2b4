"""The play: start everyone, send traffic, and let happen what happens to services."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from .backends import Backend, Embedded, Nacos
from .processes import DemoError, Process, Processes, check_ports
from .screen import Configuration, Screen
from .traffic import Traffic

__all__ = ("Play",)

INSTANCES = (
    {"version": "1.0", "lane": ""},
    {"version": "2.0", "lane": ""},
    {"version": "2.0", "lane": "dev"},
)
FIRST, SECOND = "hello", "welcome"
BROKEN_DOCUMENT = "greeting: [oops"
READ_NEXT = "read next: examples/README.md (what to copy), docs/getting-started.md (step by step)"
PATIENCE_SECONDS = 20.0
HAPPENS, HELD = "bold cyan", "green"


class Play:
    """Six acts under steady traffic; each goes on only when what it promises came true.

    Args:
        nacos: `host:port` of a real Nacos; empty = embedded.
        port: the first of five.
        act_seconds: traffic before each act.
        keep: after the last act traffic goes on until it is cancelled.
    """

    def __init__(
        self,
        folder: Path,
        screen: Screen,
        *,
        nacos: str = "",
        port: int = 7080,
        act_seconds: float = 1.5,
        keep: bool = False,
    ) -> None:
        self._screen = screen
        self._act_seconds = act_seconds
        self._keep = keep
        self._ports = {} if nacos else {"lite-registry": port}
        self._ports |= {"gateway": port + 1}
        self._ports |= {f"orders-{n}": port + 1 + n for n in range(1, len(INSTANCES) + 1)}
        self._backend: Backend = Nacos(nacos) if nacos else Embedded(folder, port)
        self._processes = Processes(folder)
        self._instances: list[Process] = []
        self._configurations: dict[str, Configuration] = {}
        self._breakers: dict[str, str] = {}
        self._gateway = f"http://127.0.0.1:{self._ports['gateway']}"
        self._traffic = Traffic(self._gateway)

    async def run(self) -> bool:
        """The whole play; whether no call failed and none strayed.

        Raises:
            DemoError: it cannot be played, or something that was promised did not happen.
        """
        check_ports(self._ports)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._processes.stop)
            await self._set_the_stage(stack)
            background = [
                asyncio.create_task(self._traffic.run()),
                asyncio.create_task(self._keep_showing()),
            ]
            try:
                await self._acts()
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
            return self._verdict()

    async def _set_the_stage(self, stack: AsyncExitStack) -> None:
        await self._backend.open(self._processes, stack)
        self._screen.event(f"registry and configuration: {self._backend.title}")
        await self._backend.write(f"greeting: {FIRST}\n")
        self._instances = [
            await self._service(f"orders-{number}", "orders", labels)
            for number, labels in enumerate(INSTANCES, start=1)
        ]
        gateway = await self._service("gateway", "gateway", {})
        for process in self._instances:
            await self._processes.ready(process, "/v1/orders/0")
        # They register once they listen, and the gateway hears of it a moment later.
        await self._processes.ready(gateway, f"/known/{len(self._instances)}")
        await self._processes.ready(gateway, "/orders/0")
        self._screen.event(
            "orders (three instances) and a gateway; 50 calls/s, each 4th in lane dev"
        )

    async def _service(self, name: str, module: str, labels: Mapping[str, str]) -> Process:
        environment = {
            **self._backend.environment(),
            "MICROSERVICE_HOST": "127.0.0.1",
            "MICROSERVICE_PORT": str(self._ports[name]),
            "MICROSERVICE_LEAVE_SECONDS": str(self._backend.leave_seconds),
            **{f"MICROSERVICE_{key.upper()}": value for key, value in labels.items() if value},
        }
        program = ["-m", f"examples.demo.{module}"]
        return await self._processes.start(name, self._ports[name], program, environment, labels)

    # the acts

    async def _acts(self) -> None:
        acts = (
            self._crash,
            self._change,
            self._mistake,
            self._rollback,
            self._end_of_the_lane,
            self._stop_under_load,
        )
        for act in acts:
            await asyncio.sleep(self._act_seconds)
            await act()
        await asyncio.sleep(self._act_seconds)
        if self._keep:
            self._screen.event("traffic goes on; Ctrl-C ends it")
            await asyncio.Event().wait()

    async def _crash(self) -> None:
        victim = self._instances[0]
        victim.kill()
        self._screen.event(f"{victim.name} is killed with -9: no goodbye, as in a crash", HAPPENS)
        breaker = victim.address
        await self._until(lambda: self._breakers.get(breaker) == "open", "its breaker opened")
        self._held(f"its breaker opened, the others answer: {self._failures()}")
        await asyncio.sleep(self._act_seconds)
        self._instances[0] = await self._service(victim.name, "orders", victim.labels)
        calls = self._traffic.tallies[victim.port].calls
        await self._until(
            lambda: self._traffic.tallies[victim.port].calls > calls, f"{victim.name} came back"
        )
        self._held(f"{victim.name} was started again and takes calls again")

    async def _change(self) -> None:
        await self._publish(f"greeting: {SECOND}")
        began = time.monotonic()
        await self._until(lambda: self._all_greet(SECOND), "the new greeting arrived")
        seconds = time.monotonic() - began
        self._held(f"all three greet anew after {seconds:.1f} s, none was restarted")

    async def _mistake(self) -> None:
        await self._publish(BROKEN_DOCUMENT)
        await self._until(
            lambda: all(one.problem for one in self._alive_configurations()), "it was refused"
        )
        if not self._all_greet(SECOND):
            raise DemoError("a broken document changed the greeting")
        self._held(f"refused by all three, the last good one stays in force: {SECOND}")

    async def _rollback(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for process in self._alive():
                url = f"http://{process.address}/configuration/rollback"
                (await http.post(url)).raise_for_status()
        self._screen.event("all three are told to go back to the version before", HAPPENS)
        await self._until(lambda: self._all_greet(FIRST), "the earlier version came back")
        self._held(f"they greet as before, whatever the broken document says: {FIRST}")

    async def _end_of_the_lane(self) -> None:
        lonely = self._instances[2]
        self._traffic.lane_served_by = None
        lonely.terminate()
        self._screen.event(f"SIGTERM to {lonely.name}, the only instance of lane dev", HAPPENS)
        await self._until(lambda: not lonely.alive, f"{lonely.name} ended")
        self._traffic.lane_served_by = ""
        await self._until(lambda: self._traffic.fallbacks > 0, "the lane fell back to base")
        self._held(f"calls of lane dev fell back to base: {self._failures()}")

    async def _stop_under_load(self) -> None:
        busy = self._instances[1]
        busy.terminate()
        self._screen.event(f"SIGTERM to {busy.name} under load", HAPPENS)
        await self._until(lambda: not busy.alive, f"{busy.name} ended")
        self._held(f"it left the registry, answered what it had, ended: {self._failures()}")

    # what the acts are made of

    async def _publish(self, document: str) -> None:
        await self._backend.write(f"{document}\n")
        self._screen.event(f"orders.yaml now says   {document}", HAPPENS)

    async def _until(self, came_true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not came_true():
            if time.monotonic() > deadline:
                raise DemoError(f"within {PATIENCE_SECONDS:.0f} s it did not happen that {what}")
            await asyncio.sleep(0.02)

    def _held(self, text: str) -> None:
        self._screen.event(f"  {text}", HELD)

    def _failures(self) -> str:
        return f"{self._traffic.failed} of {self._traffic.sent} calls failed"

    def _alive(self) -> list[Process]:
        return [process for process in self._instances if process.alive]

    def _alive_configurations(self) -> list[Configuration]:
        unknown = Configuration()
        return [self._configurations.get(one.address, unknown) for one in self._alive()]

    def _all_greet(self, greeting: str) -> bool:
        tallies = self._traffic.tallies
        return all(tallies[process.port].greeting == greeting for process in self._alive())

    # what is seen

    async def _keep_showing(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    self._breakers = (await http.get(f"{self._gateway}/breakers")).json()
                for process in self._alive():
                    with contextlib.suppress(httpx.HTTPError):
                        told = (await http.get(f"http://{process.address}/configuration")).json()
                        self._configurations[process.address] = Configuration(**told)
                self._show()
                await asyncio.sleep(0.15)

    def _show(self) -> None:
        self._screen.update(self._instances, self._traffic, self._breakers, self._configurations)

    def _verdict(self) -> bool:
        traffic = self._traffic
        good = traffic.failed == 0 and traffic.strayed == 0
        counts = (
            f"{traffic.sent} calls, {traffic.failed} failed, {traffic.strayed} in the wrong lane"
        )
        self._screen.event(
            f"{'it held' if good else 'IT DID NOT HOLD'}: {counts}",
            "bold green" if good else "bold red",
        )
        for problem in traffic.problems:
            self._screen.event(problem, "red")
        self._screen.event(READ_NEXT)
        self._show()
        return good
