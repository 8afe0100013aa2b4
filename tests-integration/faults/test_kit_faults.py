"""Services made with the kit while their center, registry, clock or process fails."""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from own_servers import OwnServers
from pydantic import BaseModel

from microservice_client import AsyncServiceClient
from microservice_core import (
    ConfigCenter,
    ConfigCenterError,
    ConfigPublisher,
    ServiceRegistry,
    open_config_center,
    open_service_registry,
)
from microservice_core.testing import eventually
from microservice_kit import ConfigEncryption, ConfigService, MicroserviceModule, OpenModule

pytestmark = pytest.mark.timeout(400)

Start = Callable[..., subprocess.Popen[str]]


# A lease as Nacos shall keep it; lite-registry's is in the settings.
SIX_SECONDS = {
    "preserved.heart.beat.interval": "1000",
    "preserved.heart.beat.timeout": "3000",
    "preserved.ip.delete.timeout": "6000",
}


class Settings(BaseModel):
    greeting: str = "hello"


class Pair(BaseModel):
    left: int = 0
    right: int = 0


@pytest.fixture(autouse=True)
def own_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def settings(nacos: OwnServers, tmp_path: Path) -> dict[str, object]:
    """For the Nacos that is killed here; nothing of what others have seen is at hand."""
    environment = nacos.environment()
    return {
        "server_addr": environment["NACOS_SERVER_ADDR"],
        "username": environment["NACOS_USERNAME"],
        "password": environment["NACOS_PASSWORD"],
        "config_poll_seconds": 1.0,
        "instance_poll_seconds": 1.0,
        "timeout_seconds": 3.0,
        "attempt_seconds": 1.5,
        "snapshot_dir": str(tmp_path / "snapshots"),
    }


@asynccontextmanager
async def published(settings: dict[str, object], content: str) -> AsyncIterator[str]:
    """A document that is there to be read, until the end."""
    name = f"faults-{uuid4().hex[:8]}.json"
    async with open_config_center("nacos", settings) as center:
        assert isinstance(center, ConfigPublisher)
        await center.publish_config(name, content)
        await eventually(lambda: readable(center, name), bool)
        yield name
        await center.delete_config(name)


async def readable(center: ConfigCenter, name: str) -> bool:
    try:
        await center.get_config(name)
    except ConfigCenterError:
        return False
    return True


def unseen(settings: dict[str, object], folder: Path) -> dict[str, object]:
    """The same server for a client that has no snapshots of it."""
    return {**settings, "snapshot_dir": str(folder / uuid4().hex)}


async def test_a_center_that_is_down_at_the_start_is_met_by_policy(
    nacos: OwnServers, settings: dict[str, object], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"

    def build_module(
        policy: Literal["fail", "wait", "degrade"], *, patience: float = 3.0, **more: object
    ) -> MicroserviceModule[Settings]:
        return MicroserviceModule(
            config_center="nacos",
            # Three seconds would not outlast those in which a booting Nacos refuses every login.
            config_center_settings=unseen(settings, tmp_path) | {"timeout_seconds": patience},
            config=Settings,
            documents=[name],
            on_config_unavailable=policy,
            **more,  # type: ignore[arg-type]
        )

    async def waited() -> str:
        async with build_module("wait", patience=10.0, config_wait_seconds=120.0) as module:
            return module.config.current.greeting

    async with published(settings, '{"greeting": "welcome"}') as name:
        async with build_module("fail", config_snapshot=kept):
            pass
        await asyncio.to_thread(nacos.kill)
        try:
            with pytest.raises(
                ConfigCenterError, match="check the address and that the server is up"
            ):
                async with build_module("fail"):
                    pass
            waiting = asyncio.create_task(waited())
            async with (
                build_module("degrade") as unaware,
                build_module("degrade", config_snapshot=kept) as aware,
            ):
                assert unaware.config.current.greeting == "hello"
                assert aware.config.current.greeting == "welcome"
                assert (await unaware.health.check())["config"].status == "down"
                await asyncio.to_thread(nacos.up)
                await eventually(lambda: says(unaware, "welcome"), bool, within_seconds=60)
                await eventually(lambda: well(unaware), bool)
        finally:
            await asyncio.to_thread(nacos.up)
        assert await waiting == "welcome"


async def well(module: OpenModule[Settings]) -> bool:
    return (await module.health.check())["config"].status == "up"


async def says(module: OpenModule[Settings], greeting: str) -> bool:
    return module.config.current.greeting == greeting


async def test_a_restart_of_nacos_loses_neither_registration_nor_configuration(
    nacos: OwnServers, settings: dict[str, object]
) -> None:
    service = f"restarted-{uuid4().hex[:8]}"
    async with published(settings, '{"greeting": "welcome"}') as name:
        microservice = MicroserviceModule(
            service_name=service,
            host="127.0.0.1",
            port=8000,
            config_center="nacos",
            config_center_settings=settings,
            service_registry="nacos",
            service_registry_settings=settings,
            config=Settings,
            documents=[name],
        )
        async with microservice as module:
            await asyncio.to_thread(nacos.kill)
            assert module.config.current.greeting == "welcome"
            await asyncio.to_thread(nacos.up)
            await eventually(lambda: listed(settings, service), lambda n: n == 1, within_seconds=60)
            center = module.config_center
            assert isinstance(center, ConfigPublisher)
            await center.publish_config(name, '{"greeting": "again"}')
            await eventually(lambda: says(module, "again"), bool, within_seconds=60)
        await eventually(lambda: listed(settings, service), lambda n: n == 0, within_seconds=60)


async def listed(settings: dict[str, object], service: str) -> int:
    """How many are registered, asked by somebody who knew nothing before."""
    async with open_service_registry("nacos", settings) as registry:
        return len(await registry.get_instances(service))


async def test_a_wrong_key_keeps_the_last_good_version_and_says_so(
    nacos_settings: dict[str, object], tmp_path: Path
) -> None:
    key, other = os.urandom(32), os.urandom(32)
    right, wrong = ConfigEncryption(lambda _: key), ConfigEncryption(lambda _: other)
    settings = unseen({**nacos_settings, "config_poll_seconds": 1.0}, tmp_path)
    secret = right.encrypt("welcome")
    async with published(settings, json.dumps({"greeting": secret})) as name:
        microservice = MicroserviceModule(
            config_center="nacos",
            config_center_settings=settings,
            config=Settings,
            documents=[name],
            config_keys=lambda _: key,
        )
        async with microservice as module:
            assert module.config.current.greeting == "welcome"
            center = module.config_center
            assert isinstance(center, ConfigPublisher)
            await center.publish_config(name, json.dumps({"greeting": wrong.encrypt("bye")}))

            async def problem() -> str:
                return str(module.config.problem or "")

            told = await eventually(problem, bool, within_seconds=20)
            assert "bye" not in told
            assert module.config.current.greeting == "welcome"


async def test_a_rollback_under_load_shows_only_versions_that_were(
    nacos_settings: dict[str, object], tmp_path: Path
) -> None:
    settings = unseen({**nacos_settings, "config_poll_seconds": 1.0}, tmp_path)
    async with published(settings, '{"left": 1, "right": 1}') as name:
        microservice = MicroserviceModule(
            config_center="nacos", config_center_settings=settings, config=Pair, documents=[name]
        )
        async with microservice as module:
            config, torn, reads, done = module.config, [], [], threading.Event()

            def read() -> None:
                count = 0
                while not done.is_set():
                    now = config.current
                    count += 1
                    if now.left != now.right:
                        torn.append(now)
                reads.append(count)

            readers = [threading.Thread(target=read) for _ in range(4)]
            for reader in readers:
                reader.start()
            try:
                center = module.config_center
                assert isinstance(center, ConfigPublisher)
                for number in range(2, 5):
                    await center.publish_config(name, f'{{"left": {number}, "right": {number}}}')
                    await eventually(partial(left_is, config, number), bool, within_seconds=20)
                    config.rollback(1)
                    assert config.current.left == 1
                    config.resume()
                    assert config.current.left == number
                await config.publish_back(2)
                await eventually(partial(left_is, config, 2), bool, within_seconds=20)
            finally:
                done.set()
                for reader in readers:
                    reader.join()
            assert not torn
            assert min(reads) > 100


async def left_is(config: ConfigService[Pair], number: int) -> bool:
    return config.current.left == number


@dataclass(frozen=True, slots=True)
class Place:
    """A registry that programs and these tests share."""

    provider: str
    settings: dict[str, object]
    registry: ServiceRegistry
    lease_seconds: float

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "MICROSERVICE_SERVICE_REGISTRY": self.provider,
            "MICROSERVICE_SERVICE_REGISTRY_SETTINGS": json.dumps(self.settings),
            "MICROSERVICE_HOST": "127.0.0.1",
            "MICROSERVICE_LEAVE_SECONDS": "0",
            **{f"MICROSERVICE_{name.upper()}": value for name, value in more.items()},
        }

    async def ports(self, service: str) -> set[int]:
        return {each.port for each in await self.registry.get_instances(service)}


@pytest.fixture(params=["lite", "nacos"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "nacos":
        settings = unseen(request.getfixturevalue("nacos_settings"), tmp_path)
        settings |= {"instance_poll_seconds": 0.5, "empty_hold_seconds": 1.0}
        lease_seconds = 30.0  # Nacos' own, from the last beat
    else:
        port = request.getfixturevalue("free_port")
        url = f"http://127.0.0.1:{port}"
        server = request.getfixturevalue("start")(
            "-m", "lite_registry", "serve", "--port", str(port)
        )
        await asyncio.to_thread(request.getfixturevalue("answers"), server, f"{url}/healthz")
        settings, lease_seconds = {"url": url, "ttl_seconds": 6.0}, 6.0
    async with open_service_registry(request.param, settings) as registry:
        yield Place(request.param, settings, registry, lease_seconds)


async def test_a_killed_service_is_gone_within_its_lease(place: Place, start: Start) -> None:
    service = f"killed-{uuid4().hex[:8]}"
    program = start(
        "tests-integration/faults/kit_service.py",
        environment=place.environment(service_name=service),
    )
    await eventually(lambda: place.ports(service), lambda ports: len(ports) == 1, within_seconds=30)
    program.kill()
    # What sweeps and polls add to the lease is bounded as well.
    within = place.lease_seconds + 10.0
    await eventually(lambda: place.ports(service), lambda ports: not ports, within_seconds=within)


async def test_each_worker_of_a_prefork_server_has_its_own_registration(
    place: Place, start: Start, free_port: int
) -> None:
    service = f"forked-{uuid4().hex[:8]}"
    program = start(
        "tests-integration/faults/prefork.py",
        str(free_port),
        environment=place.environment(service_name=service),
    )
    three = {free_port, free_port + 1, free_port + 2}
    await eventually(lambda: place.ports(service), lambda ports: ports == three, within_seconds=30)
    for worker in children(program.pid):
        os.kill(worker, signal.SIGTERM)
    await eventually(
        lambda: place.ports(service), lambda ports: ports == {free_port}, within_seconds=30
    )
    program.terminate()
    await eventually(lambda: place.ports(service), lambda ports: not ports, within_seconds=30)
    assert await asyncio.to_thread(program.wait, 20) == 0


@asynccontextmanager
async def counted(place: Place, service: str) -> AsyncIterator[list[int]]:
    """How many instances there were, as often as the registry can be asked; only changes count."""
    counts: list[int] = []

    async def ask(registry: ServiceRegistry) -> None:
        while True:
            found = len(await registry.get_instances(service))
            if counts[-1:] != [found]:
                counts.append(found)
            await asyncio.sleep(0.005)

    believing = {"empty_hold_seconds": 0.0} if place.provider == "nacos" else {}
    async with open_service_registry(place.provider, place.settings | believing) as registry:
        asking = asyncio.create_task(ask(registry))
        try:
            yield counts
        finally:
            asking.cancel()
            await asyncio.wait([asking])


@pytest.mark.parametrize("first", [0, 1])
async def test_a_worker_that_ends_leaves_the_address_they_share_to_the_other(
    place: Place, start: Start, free_port: int, first: int, tmp_path: Path
) -> None:
    service, ready = f"shared-{uuid4().hex[:8]}", tmp_path / "ready"
    ready.mkdir()
    program = start(
        "tests-integration/faults/one_address.py",
        str(free_port),
        str(ready),
        environment=place.environment(service_name=service, metadata=json.dumps(SIX_SECONDS)),
    )
    await eventually(
        lambda: asyncio.sleep(0, list(ready.iterdir())), lambda both: len(both) == 2,
        within_seconds=30,
    )  # fmt: skip
    workers = sorted(int(each.name) for each in ready.iterdir())
    await eventually(lambda: place.ports(service), lambda ports: ports == {free_port})
    async with counted(place, service) as counts:
        os.kill(workers[first], signal.SIGTERM)
        await eventually(
            lambda: asyncio.sleep(0, children(program.pid)), lambda left: len(left) == 1
        )
        until = time.monotonic() + 9.0
        while time.monotonic() < until:  # the other one keeps it alive
            await asyncio.sleep(0.1)
        assert counts == [1]
    os.kill(workers[1 - first], signal.SIGTERM)
    assert await asyncio.to_thread(program.wait, 20) == 0
    # The last one took it out: no lease ends so soon.
    await eventually(lambda: place.ports(service), lambda ports: not ports, within_seconds=3.0)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_wall_clock_that_jumps_changes_nothing(
    place: Place, nacos_settings: dict[str, object], start: Start, tmp_path: Path
) -> None:
    service = f"jumping-{uuid4().hex[:8]}"
    settings = unseen({**nacos_settings, "config_poll_seconds": 1.0}, tmp_path)
    async with (
        published(settings, '{"greeting": "1"}') as name,
        open_config_center("nacos", settings) as center,
        AsyncServiceClient(place.registry) as client,
    ):
        assert isinstance(center, ConfigPublisher)

        async def answer() -> dict[str, object]:
            response = await client.get(service, "/greeting")
            return dict(response.json())

        program = start(
            "tests-integration/faults/kit_service.py",
            environment=place.environment(
                service_name=service,
                config_center="nacos",
                config_center_settings=json.dumps(settings),
                documents=json.dumps([name]),
            ),
        )
        await eventually(lambda: place.ports(service), lambda ports: len(ports) == 1)
        for number, (jump, ahead) in enumerate(
            [(signal.SIGUSR1, 86_400.0), (signal.SIGUSR2, -86_400.0)], start=2
        ):
            program.send_signal(jump)
            told = await eventually(answer, partial(off_by, ahead))
            assert told["greeting"] == str(number - 1)
            await center.publish_config(name, f'{{"greeting": "{number}"}}')
            await eventually(answer, partial(greets, str(number)), within_seconds=20)
            # Longer than a lease: it was renewed after the jump.
            until = time.monotonic() + (place.lease_seconds if place.provider == "lite" else 8.0)
            while time.monotonic() < until:
                assert len(await place.ports(service)) == 1
                await asyncio.sleep(0.1)


def greets(greeting: str, told: dict[str, object]) -> bool:
    return told["greeting"] == greeting


def off_by(seconds: float, told: dict[str, object]) -> bool:
    return abs(float(str(told["time"])) - time.time() - seconds) < 60
