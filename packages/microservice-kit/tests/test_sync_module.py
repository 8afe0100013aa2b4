import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import BaseModel

from microservice_core import ServiceInstance
from microservice_core.loop_thread import LoopThreadError
from microservice_kit import (
    ConfigCenterValue,
    MicroserviceModule,
    NotEnabledError,
    current_module,
)


class Settings(BaseModel):
    pool: int = 5


class Shop:
    pool = ConfigCenterValue("app.json", "pool", default=1, type=int)


def build_module(leave_seconds: float = 5.0) -> MicroserviceModule[Settings]:
    return MicroserviceModule(
        service_name="orders",
        host="127.0.0.1",
        port=8000,
        service_registry="memory",
        config_center="memory",
        config_center_settings={"documents": {"app.json": '{"pool": 7}'}},
        documents=["app.json"],
        config=Settings,
        leave_seconds=leave_seconds,
    )


@pytest.fixture
def sigterm() -> Iterator[threading.Event]:
    """Set when SIGTERM reaches who had it before the module."""
    received = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    yield received
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def backend() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_code_without_a_loop_has_the_same_parts(backend: int) -> None:
    with build_module() as module:
        assert module.config.current.pool == 7
        assert Shop().pool == 7
        assert module.instance is not None
        assert module.ready()
        assert module.health()["config"].status == "up"
        module.register(ServiceInstance("greeter", "127.0.0.1", backend))
        assert [instance.port for instance in module.instances("greeter")] == [backend]
        assert module.service_client.get("greeter", "/").text == "ok"
        assert module.service_client is module.service_client
        assert module.rollback(1).origin == "rollback"
        assert module.container.config() is module.config


def test_many_threads_share_it(backend: int) -> None:
    texts: list[str] = []
    with build_module() as module:
        module.register(ServiceInstance("greeter", "127.0.0.1", backend))

        def call() -> None:
            texts.append(module.service_client.get("greeter", "/").text)

        threads = [threading.Thread(target=call) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["ok"] * 16


def test_the_end_leaves_no_thread_and_nothing_open() -> None:
    before = threading.active_count()
    with build_module(leave_seconds=0) as module:
        module.leave()
    assert threading.active_count() == before
    with pytest.raises(NotEnabledError):
        current_module()
    with pytest.raises(LoopThreadError):
        module.ready()


def test_a_start_that_fails_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(LookupError), MicroserviceModule(service_registry="nobody"):
        pytest.fail("it must not open")
    assert threading.active_count() == before


def test_an_error_inside_closes_it() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), build_module():
        raise ZeroDivisionError
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_open_its_own() -> None:
    with build_module() as module:
        pid = os.fork()
        if pid == 0:
            try:
                module.ready()
            except LoopThreadError:
                with build_module() as own:
                    os._exit(0 if own.ready() and module.config.current.pool == 7 else 3)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_sigterm_leaves_the_registry_before_who_had_it_hears_it(sigterm: threading.Event) -> None:
    mine = signal.getsignal(signal.SIGTERM)
    with build_module(leave_seconds=0) as module:
        assert module.ready()
        signal.raise_signal(signal.SIGTERM)
        assert sigterm.wait(20)
        assert module.instances("orders") == ()
        assert not module.ready()
    assert signal.getsignal(signal.SIGTERM) is mine


def test_a_second_sigterm_does_not_wait(sigterm: threading.Event) -> None:
    with build_module(leave_seconds=3600) as module:
        signal.raise_signal(signal.SIGTERM)
        while module.ready():
            assert not sigterm.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert sigterm.is_set()


@pytest.mark.usefixtures("sigterm")
def test_who_registers_nothing_or_has_another_thread_leaves_the_signal_alone() -> None:
    mine = signal.getsignal(signal.SIGTERM)
    with MicroserviceModule(config_center="memory"):
        assert signal.getsignal(signal.SIGTERM) is mine

    def elsewhere() -> None:
        with build_module():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [mine]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_sigterm_ends_a_forked_child_although_nobody_is_left_there_to_leave() -> None:
    with build_module():
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # ends it when SIGTERM does not
            signal.raise_signal(signal.SIGTERM)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
