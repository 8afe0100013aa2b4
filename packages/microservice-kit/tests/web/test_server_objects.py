"""What is read from servers whose packages are not installed here: objects of the same shape."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from microservice_kit.graceful_stop import GracefulStop
from microservice_kit.web.server_port import find_server_ports, has_known_server


class Listener:
    def __init__(self, *name: object) -> None:
        self._name = name

    def getsockname(self) -> tuple[object, ...]:
        return self._name


class Worker:
    def __init__(self, *ports: int) -> None:
        self.sockets = [Listener("127.0.0.1", port) for port in ports]


class UvicornWorker(Worker):
    pass


class Config:
    def __init__(self, *bind: str) -> None:
        self.bind = list(bind)


@pytest.fixture
def _loaded(request: pytest.FixtureRequest) -> Iterator[None]:
    """As if that package were imported."""
    name, kind = request.param
    module = ModuleType(name)
    setattr(module, kind.__name__, kind)
    sys.modules[name] = module
    yield
    del sys.modules[name]


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize("_loaded", [("gunicorn.workers.base", Worker)], indirect=True)
def test_a_gunicorn_worker_is_found_whatever_its_class() -> None:
    worker = UvicornWorker(8000, 8443)
    assert has_known_server()
    assert find_server_ports() == (8000, 8443)
    assert worker.sockets


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize("_loaded", [("hypercorn.config", Config)], indirect=True)
def test_hypercorn_s_bindings_are_read() -> None:
    config = Config("0.0.0.0:8000", "unix:/tmp/x", "[::]:0")
    assert find_server_ports() == (8000,)
    assert config.bind


def test_without_a_server_there_is_no_port() -> None:
    if "uvicorn.server" not in sys.modules:
        assert not has_known_server()
        assert find_server_ports() == ()


async def test_sigterm_is_held_back_until_the_service_has_left() -> None:
    received: list[int] = []
    may_leave, forwarded = asyncio.Event(), asyncio.Event()

    def server(signum: int, _frame: object) -> None:
        received.append(signum)
        forwarded.set()

    async def leave() -> None:
        await may_leave.wait()

    before = signal.signal(signal.SIGTERM, server)
    try:
        stop = GracefulStop(leave).install()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert received == []
        may_leave.set()
        await forwarded.wait()
        assert signal.getsignal(signal.SIGTERM) is server
        stop.uninstall()

        hanging = GracefulStop(asyncio.Event().wait).install()  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
        hanging.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_service_that_cannot_leave_stops_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forwarded = asyncio.Event()

    async def fail() -> None:
        raise ConnectionError

    before = signal.signal(signal.SIGTERM, lambda *_: forwarded.set())
    try:
        GracefulStop(fail).install()
        signal.raise_signal(signal.SIGTERM)
        await forwarded.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "could not leave the registry" in caplog.text


async def test_a_signal_somebody_else_took_meanwhile_is_not_given_back() -> None:
    async def leave() -> None:
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = GracefulStop(leave).install()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.uninstall()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_outside_the_main_thread_and_under_asyncio_s_own_handlers_nothing_is_taken() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def leave() -> None:
        pass

    async def install() -> None:
        GracefulStop(leave).install()

    await asyncio.to_thread(asyncio.run, install())
    assert signal.getsignal(signal.SIGTERM) is before
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    taken = signal.getsignal(signal.SIGTERM)
    GracefulStop(leave).install().uninstall()
    assert signal.getsignal(signal.SIGTERM) is taken
    loop.remove_signal_handler(signal.SIGTERM)
