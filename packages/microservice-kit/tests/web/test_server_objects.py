"""What is read from servers whose packages are not installed here: objects of the same shape."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

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
