import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, settings

from lane_router import LaneRouter, uninstrument

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class Service:
    """A real HTTP server that records the lanes it is sent, and redirects where the test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None, str | None]] = []  # path, x-lane, baggage
        self.hosts: list[str | None] = []
        self.bodies: list[bytes] = []
        self.redirects: dict[str, str] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = self.headers
                service.requests.append((self.path, headers["x-lane"], headers["baggage"]))
                service.hosts.append(headers["host"])
                length = int(headers["content-length"] or 0)
                service.bodies.append(self.rfile.read(length))
                target = service.redirects.get(self.path)
                self.send_response(307 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def lanes(self) -> list[str | None]:
        return [lane for _, lane, _ in self.requests]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Mesh:
    """The service `orders` with a base and the lane `dev`, and a host outside of it."""

    def __init__(self) -> None:
        self.base, self.dev, self.foreign = Service(), Service(), Service()

    def document(self) -> dict[str, object]:
        return {
            "services": {
                "orders": {
                    "lanes": ["dev"],
                    "base": {"name": "127.0.0.1", "port": self.base.port},
                    "lane": {"dev": {"name": "127.0.0.1", "port": self.dev.port}},
                }
            }
        }

    def router(self, mode: str = "permissive") -> LaneRouter:
        return LaneRouter.from_document(self.document(), mode=mode)  # type: ignore[arg-type]

    @property
    def foreign_url(self) -> str:
        # The mesh publishes 127.0.0.1, so the same machine under another name is a foreign host.
        return f"http://localhost:{self.foreign.port}/"

    def stop(self) -> None:
        for service in (self.base, self.dev, self.foreign):
            service.stop()


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    mesh = Mesh()
    yield mesh
    uninstrument()
    mesh.stop()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
