"""Workers that serve one address: another process is a real one, and holds or releases on command."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_core.testing import eventually
from microservice_kit import MicroserviceModule
from microservice_kit.registration.registrar import Registrar
from microservice_kit.registration.registration_lock import RegistrationLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no prefork servers there")

ITS_LOCK = """
import sys
from pathlib import Path
from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_kit.registration.registration_lock import RegistrationLock

class Server(InMemoryServiceRegistry):
    server_address = "127.0.0.1:1"

folder = Path(sys.argv[2]) if sys.argv[2] else None
lock = RegistrationLock(ServiceInstance(sys.argv[1], "127.0.0.1", 80), Server(), folder)
"""

HOLDING = """
print(lock.acquire(), flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""

WITH_A_CHILD = """
import os
lock.acquire()
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("forked", flush=True)
sys.stdin.read()
"""

COMING_AND_GOING = """
import os
print("ready", flush=True)
sys.stdin.readline()
marker, lasts = folder / f"present-{sys.argv[3]}", 0
for _ in range(500):
    lock.acquire()
    present = lock.present
    if present:
        marker.touch()
    sum(range(500))
    marker.unlink(missing_ok=True)
    if lock.sign_off() and present:
        lasts += 1
        assert not list(folder.glob("present-*")), "the last was not alone"
    lock.release()
print("done", lasts, flush=True)
"""

LEAVING = """
print(lock.acquire(), flush=True)
sys.stdin.readline()
print(lock.sign_off(), flush=True)
lock.release()
sys.stdin.readline()
"""

IN_TURN = """
import os
print("ready", flush=True)
sys.stdin.readline()
for _ in range(2000):
    if lock.acquire():
        os.close(os.open(sys.argv[3], os.O_CREAT | os.O_EXCL))  # fails when two are in
        sum(range(1000))
        os.unlink(sys.argv[3])
        lock.release()
print("done", flush=True)
"""


class Server(InMemoryServiceRegistry):
    """As if it were one that other processes see."""

    server_address = "127.0.0.1:1"


class HandingOver(Server):
    """One that leaves an instance registered when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_over: list[ServiceInstance] = []

    async def hand_over(self, instance: ServiceInstance) -> None:
        self.handed_over.append(instance)


Other = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def other() -> Iterator[Other]:
    """Starts another process, which says whether it has the right; a line makes it give up."""
    started: list[subprocess.Popen[str]] = []

    def start(
        instance: ServiceInstance, folder: Path | str = "", does: str = HOLDING, *more: str
    ) -> subprocess.Popen[str]:
        arguments = (instance.service_name, str(folder), *more)
        command = [sys.executable, "-c", ITS_LOCK + does, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def send_line(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def release(process: subprocess.Popen[str]) -> None:
    send_line(process)
    assert read_line(process) == "released"


@pytest.fixture
def instance() -> ServiceInstance:
    return ServiceInstance(f"orders-{uuid4().hex[:8]}", "127.0.0.1", 80)


def test_one_process_has_the_right_until_it_gives_it_up(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    lock = RegistrationLock(instance, Server(), tmp_path)
    assert lock.acquire()
    assert lock.acquire()
    second = other(instance, tmp_path)
    assert read_line(second) == "False"
    lock.release()
    lock.release()
    third = other(instance, tmp_path)
    assert read_line(third) == "True"
    assert not lock.acquire()
    release(third)
    assert lock.acquire()
    release(second)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_the_process_and_a_fork_does_not_hand_it_down(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    first = other(instance, tmp_path, WITH_A_CHILD)
    assert read_line(first) == "forked"
    own_lock = RegistrationLock(instance, Server(), tmp_path)
    assert not own_lock.acquire()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert own_lock.acquire()
    own_lock.release()


def test_never_two_have_it_however_fast_it_changes_hands(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    both = [other(instance, tmp_path, IN_TURN, str(tmp_path / "taken")) for _ in range(2)]
    assert [read_line(process) for process in both] == ["ready", "ready"]
    for process in both:
        send_line(process)
    assert [read_line(process) for process in both] == ["done", "done"]


def test_of_those_who_are_there_exactly_one_leaves_last(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    others = [other(instance, tmp_path, LEAVING) for _ in range(3)]
    assert sorted(read_line(process) for process in others) == ["False", "False", "True"]
    answers: list[str] = []
    for process in others:
        send_line(process)
        answers.append(read_line(process))
    assert answers == ["False", "False", "True"]
    while list(tmp_path.iterdir()):
        """The last one removes the file, after its answer."""


def test_nobody_is_there_while_the_last_one_leaves_however_fast_they_come_and_go(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    all_four = [other(instance, folder, COMING_AND_GOING, str(number)) for number in range(4)]
    assert [read_line(process) for process in all_four] == ["ready"] * 4
    for process in all_four:
        send_line(process)
    lines = [read_line(process).split() for process in all_four]
    assert [words[0] for words in lines] == ["done"] * 4
    assert sum(int(words[1]) for words in lines) > 0
    assert list(folder.iterdir()) == []


def test_other_addresses_other_registries_and_those_in_memory_do_not_matter(
    instance: ServiceInstance, other: Other, tmp_path: Path
) -> None:
    assert read_line(other(instance, tmp_path)) == "True"
    elsewhere = ServiceInstance(instance.service_name, "127.0.0.1", 81)
    assert RegistrationLock(elsewhere, Server(), tmp_path).acquire()
    another = Server()
    another.server_address = "127.0.0.1:2"
    assert RegistrationLock(instance, another, tmp_path).acquire()
    assert RegistrationLock(instance, InMemoryServiceRegistry(), tmp_path).acquire()


def test_where_no_file_can_be_made_everyone_has_it(
    instance: ServiceInstance, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").touch()
    lock = RegistrationLock(instance, Server(), tmp_path / "file" / "folder")
    assert lock.acquire()
    lock.release()
    assert "cannot be told apart" in caplog.text


def test_a_read_only_system_without_a_temporary_folder_is_no_obstacle() -> None:
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/nothing']\n"
        + ITS_LOCK
        + HOLDING
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "orders", ""],
        input="\n\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["True", "released"], done.stderr


def test_a_folder_that_another_user_may_have_made_is_not_trusted(
    instance: ServiceInstance, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert RegistrationLock(instance, Server(), tmp_path / "link").acquire()
    assert "belongs to another user" in caplog.text


async def test_who_stands_by_registers_when_the_other_ends_and_takes_nothing_from_it(
    instance: ServiceInstance, other: Other
) -> None:
    first = other(instance)
    assert await asyncio.to_thread(read_line, first) == "True"
    registry = Server()
    await registry.register(instance)  # by the other process
    registrar, leaving = Registrar(registry), Registrar(registry)
    assert not (await leaving.add(instance)).registered
    await leaving.aclose()
    assert len(await registry.get_instances(instance.service_name)) == 1
    registration = await registrar.add(instance)
    assert not registration.registered
    await registry.deregister(instance)
    await asyncio.to_thread(release, first)

    async def registered() -> bool:
        return registration.registered

    await eventually(registered, bool)
    assert len(await registry.get_instances(instance.service_name)) == 1
    await registrar.aclose()
    assert await registry.get_instances(instance.service_name) == ()
    assert await asyncio.to_thread(read_line, other(instance)) == "True"


async def test_who_keeps_it_hands_over_to_who_stands_by(
    instance: ServiceInstance, other: Other
) -> None:
    registry = HandingOver()
    registrar = Registrar(registry)
    assert (await registrar.add(instance)).registered
    standing_by = other(instance)
    assert await asyncio.to_thread(read_line, standing_by) == "False"
    await registrar.aclose()
    assert registry.handed_over == [instance]
    assert len(await registry.get_instances(instance.service_name)) == 1
    await asyncio.to_thread(release, standing_by)

    alone = Registrar(registry)
    assert (await alone.add(instance)).registered
    await alone.aclose()
    assert await registry.get_instances(instance.service_name) == ()


async def test_the_last_takes_out_what_was_handed_over_even_if_it_never_held_the_lock(
    instance: ServiceInstance, other: Other
) -> None:
    async def never(_: float) -> None:
        await asyncio.Event().wait()

    keeping = other(instance)
    assert await asyncio.to_thread(read_line, keeping) == "True"
    registry = HandingOver()
    await registry.register(instance)  # by the other process
    standing_by = Registrar(registry, sleep=never)
    assert not (await standing_by.add(instance)).registered
    await asyncio.to_thread(release, keeping)
    assert len(await registry.get_instances(instance.service_name)) == 1
    await standing_by.aclose()
    assert await registry.get_instances(instance.service_name) == ()


async def test_who_stands_by_grows_warm_meanwhile(instance: ServiceInstance, other: Other) -> None:
    first = other(instance)
    assert await asyncio.to_thread(read_line, first) == "True"
    registry = Server()
    registrar = Registrar(registry, warm_up_seconds=0.5)
    registration = await registrar.add(instance)
    await asyncio.to_thread(release, first)

    async def weight() -> float:
        instances = await registry.get_instances(instance.service_name)
        return instances[0].weight if instances else 0.0

    await eventually(weight, lambda weight: weight == instance.weight)
    assert registration.registered
    await registrar.aclose()


async def test_standing_by_is_nothing_bad(instance: ServiceInstance, other: Other) -> None:
    assert await asyncio.to_thread(read_line, other(instance)) == "True"
    microservice = MicroserviceModule(
        service_name=instance.service_name,
        host=instance.ip,
        port=instance.port,
        service_registry=Server(),
    )
    async with microservice as module:
        result = (await module.health.check())["service_registry"]
        assert (result.status, result.detail) == ("up", "0 registered, 1 by another process")
        assert await module.health.ready()
