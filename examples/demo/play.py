"""The play: start every process, send traffic, and let faults happen to it."""

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
MAX_WAIT_SECONDS = 20.0
EVENT_STYLE, KEPT_STYLE = "bold cyan", "green"


class Play:
    """Six acts under steady traffic; each continues only when its promise was kept.

    Args:
        nacos: `host:port` of a real Nacos; empty = embedded.
        port: the first of five ports.
        act_seconds: traffic before each act.
        keep: after the last act traffic continues until it is cancelled.
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
        """Play every act; return whether no call failed and none reached the wrong lane.

        Raises:
            DemoError: it cannot start, or a promise was not kept.
        """
        check_ports(self._ports)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._processes.stop)
            await self._start_everything(stack)
            background = [
                asyncio.create_task(self._traffic.run()),
                asyncio.create_task(self._keep_showing()),
            ]
            try:
                await self._play_acts()
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
            return self._conclude()

    async def _start_everything(self, stack: AsyncExitStack) -> None:
        await self._backend.open(self._processes, stack)
        self._screen.add_event(f"registry and configuration: {self._backend.title}")
        await self._backend.write(f"greeting: {FIRST}\n")
        self._instances = [
            await self._start_service(f"orders-{number}", "orders", labels)
            for number, labels in enumerate(INSTANCES, start=1)
        ]
        gateway = await self._start_service("gateway", "gateway", {})
        for process in self._instances:
            await self._processes.wait_until_ready(process, "/v1/orders/0")
        # They register once they listen, and the gateway discovers them a moment later.
        await self._processes.wait_until_ready(gateway, f"/known/{len(self._instances)}")
        await self._processes.wait_until_ready(gateway, "/orders/0")
        self._screen.add_event(
            "orders (three instances) and a gateway; 50 calls/s, each 4th in lane dev"
        )

    async def _start_service(self, name: str, module: str, labels: Mapping[str, str]) -> Process:
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

    async def _play_acts(self) -> None:
        acts = (
            self._crash_an_instance,
            self._change_the_document,
            self._publish_a_mistake,
            self._roll_back,
            self._stop_the_lane,
            self._stop_under_load,
        )
        for act in acts:
            await asyncio.sleep(self._act_seconds)
            await act()
        await asyncio.sleep(self._act_seconds)
        if self._keep:
            self._screen.add_event("traffic continues; Ctrl-C ends it")
            await asyncio.Event().wait()

    async def _crash_an_instance(self) -> None:
        instance = self._instances[0]
        instance.kill()
        self._screen.add_event(f"{instance.name} is killed with -9, as in a crash", EVENT_STYLE)
        breaker = instance.address
        await self._wait_until(lambda: self._breakers.get(breaker) == "open", "its breaker opened")
        self._report_success(f"its breaker opened, the others respond: {self._describe_failures()}")
        await asyncio.sleep(self._act_seconds)
        self._instances[0] = await self._start_service(instance.name, "orders", instance.labels)
        calls = self._traffic.tallies[instance.port].calls
        await self._wait_until(
            lambda: self._traffic.tallies[instance.port].calls > calls, f"{instance.name} came back"
        )
        self._report_success(f"{instance.name} was started again and takes calls again")

    async def _change_the_document(self) -> None:
        await self._publish(f"greeting: {SECOND}")
        started_at = time.monotonic()
        await self._wait_until(lambda: self._all_greet(SECOND), "the new greeting arrived")
        seconds = time.monotonic() - started_at
        self._report_success(
            f"all three use the new value after {seconds:.1f} s, without a restart"
        )

    async def _publish_a_mistake(self) -> None:
        await self._publish(BROKEN_DOCUMENT)
        await self._wait_until(
            lambda: all(configuration.problem for configuration in self._living_configurations()),
            "it was refused",
        )
        if not self._all_greet(SECOND):
            raise DemoError("a broken document changed the greeting")
        self._report_success(f"refused by all three, which keep the last valid one: {SECOND}")

    async def _roll_back(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for process in self._living_instances():
                url = f"http://{process.address}/configuration/rollback"
                (await http.post(url)).raise_for_status()
        self._screen.add_event("all three are rolled back to the previous version", EVENT_STYLE)
        await self._wait_until(lambda: self._all_greet(FIRST), "the earlier version came back")
        self._report_success(
            f"they greet as before, although the broken document is still there: {FIRST}"
        )

    async def _stop_the_lane(self) -> None:
        instance = self._instances[2]
        self._traffic.lane_served_by = None
        instance.terminate()
        self._screen.add_event(
            f"SIGTERM to {instance.name}, the only instance of lane dev", EVENT_STYLE
        )
        await self._wait_until(lambda: not instance.alive, f"{instance.name} ended")
        self._traffic.lane_served_by = ""
        await self._wait_until(lambda: self._traffic.fallbacks > 0, "the lane fell back to base")
        self._report_success(f"calls of lane dev fell back to base: {self._describe_failures()}")

    async def _stop_under_load(self) -> None:
        instance = self._instances[1]
        instance.terminate()
        self._screen.add_event(f"SIGTERM to {instance.name} under load", EVENT_STYLE)
        await self._wait_until(lambda: not instance.alive, f"{instance.name} ended")
        self._report_success(
            f"it left the registry, finished its requests, ended: {self._describe_failures()}"
        )

    # the parts of an act

    async def _publish(self, document: str) -> None:
        await self._backend.write(f"{document}\n")
        self._screen.add_event(f"orders.yaml now says   {document}", EVENT_STYLE)

    async def _wait_until(self, condition: Callable[[], bool], expectation: str) -> None:
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise DemoError(
                    f"within {MAX_WAIT_SECONDS:.0f} s this did not happen: {expectation}"
                )
            await asyncio.sleep(0.02)

    def _report_success(self, text: str) -> None:
        self._screen.add_event(f"  {text}", KEPT_STYLE)

    def _describe_failures(self) -> str:
        return f"{self._traffic.failed} of {self._traffic.sent} calls failed"

    def _living_instances(self) -> list[Process]:
        return [process for process in self._instances if process.alive]

    def _living_configurations(self) -> list[Configuration]:
        unknown = Configuration()
        return [
            self._configurations.get(instance.address, unknown)
            for instance in self._living_instances()
        ]

    def _all_greet(self, greeting: str) -> bool:
        tallies = self._traffic.tallies
        return all(
            tallies[process.port].greeting == greeting for process in self._living_instances()
        )

    # the screen

    async def _keep_showing(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    self._breakers = (await http.get(f"{self._gateway}/breakers")).json()
                for process in self._living_instances():
                    with contextlib.suppress(httpx.HTTPError):
                        response = await http.get(f"http://{process.address}/configuration")
                        self._configurations[process.address] = Configuration(**response.json())
                self._show()
                await asyncio.sleep(0.15)

    def _show(self) -> None:
        self._screen.update(self._instances, self._traffic, self._breakers, self._configurations)

    def _conclude(self) -> bool:
        traffic = self._traffic
        succeeded = traffic.failed == 0 and traffic.strayed == 0
        counts = (
            f"{traffic.sent} calls, {traffic.failed} failed, {traffic.strayed} in the wrong lane"
        )
        self._screen.add_event(
            f"{'every promise was kept' if succeeded else 'A PROMISE WAS BROKEN'}: {counts}",
            "bold green" if succeeded else "bold red",
        )
        for problem in traffic.problems:
            self._screen.add_event(problem, "red")
        self._screen.add_event(READ_NEXT)
        self._show()
        return succeeded
