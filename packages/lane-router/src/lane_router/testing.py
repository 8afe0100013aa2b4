"""A registry for tests: a real HTTP server with the wire format of lite-registry, and its faults."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

__all__ = ("FakeRouteRegistry", "Fault")

Fault = Literal["error", "empty", "garbage", "silent", "cut", "not ready"]

Services = Mapping[str, object]


class FakeRouteRegistry:
    """Serves `/v1/routes` on loopback while its `with` block runs.

        with FakeRouteRegistry({"orders": {"lanes": ["dev"], "port": 8000}}) as registry:
            LaneRouter(registry.url)

    Attributes:
        fault: how it fails; None = it works.
        watches: whether it offers the long-poll; without it there is neither version nor ETag.
        deltas: whether it sends only the changes to clients that request them.
        deltas_sent: how many of its responses were only changes.
        age_seconds: the `Age` header of its responses.
        targets: the request targets so far, in order.
        port: on loopback; the same after `stop` and `start`. 0 = not started yet.
    """

    def __init__(
        self, services: Services | None = None, *, watches: bool = True, deltas: bool = True
    ) -> None:
        self.fault: Fault | None = None
        self.watches = watches
        self.deltas = deltas
        self.age_seconds = 0
        self.targets: list[str] = []
        self.port = 0
        self.deltas_sent = 0
        self._services: Services = services or {}
        self._versions: dict[str, Services] = {self.version: self._services}
        self._changed = threading.Condition()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address, once started; it stays the same after `stop` and `start`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        """A hash of the routes."""
        text = json.dumps(self._services, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def publish(self, services: Services) -> None:
        """Serve these routes from now on, and respond to the long-polls that wait for a change."""
        with self._changed:
            self._services = services
            self._versions[self.version] = services
            self._changed.notify_all()

    def wait_for_requests(self, count: int, within_seconds: float = 20.0) -> bool:
        """Wait until there were this many requests since the start.

        Returns:
            False if there were fewer after `within_seconds`.
        """
        with self._changed:
            return self._changed.wait_for(lambda: len(self.targets) >= count, within_seconds)

    def start(self) -> None:
        """Start to listen."""
        self._server = _Server(self.port, self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop to listen and cut off the long-polls; it can be started again."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def record_request(self, target: str) -> None:
        """Append a request to `targets`."""
        with self._changed:
            self.targets.append(target)
            self._changed.notify_all()

    def wait_for_change(self, version: str, seconds: float) -> None:
        """Block until the routes have another version, the time is over, or the server stops."""
        server = self._server
        with self._changed:
            self._changed.wait_for(
                lambda: self.version != version or self._server is not server, seconds
            )

    def encode_routes(self, since: str = "") -> bytes:
        """The body of a response.

        Args:
            since: a version; when it is known, the body holds only what changed after it.
        """
        document: dict[str, object] = {"services": self._services}
        if self.deltas and since in self._versions:
            self.deltas_sent += 1
            before = self._versions[since]
            changed = {
                name: entry for name, entry in self._services.items() if before.get(name) != entry
            }
            removed = sorted(before.keys() - self._services.keys())
            document = {"since": since, "services": changed, "removed": removed}
        if self.watches:
            document |= {"version": self.version, "age_seconds": self.age_seconds, "stale": False}
        return json.dumps(document).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, registry: FakeRouteRegistry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print no traceback: clients that disconnect early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        registry = self.server.registry
        registry.record_request(self.path)
        query = parse_qs(urlsplit(self.path).query)
        if registry.fault is not None:
            self._fail(registry.fault)
            return
        if registry.watches and "watch" in query:
            seconds = float(query["timeout"][0].removesuffix("s"))
            registry.wait_for_change(query["version"][0], seconds)
            if query["version"][0] == registry.version:
                self._respond(304, b"")
                return
        etag = self.headers.get("if-none-match")
        if registry.watches and etag == f'W/"{registry.version}"':
            self._respond(304, b"")
        else:
            self._respond(200, registry.encode_routes(query.get("since", [""])[0]))

    def _fail(self, fault: Fault) -> None:
        registry = self.server.registry
        if fault == "silent":
            registry.wait_for_change(registry.version, 60.0)
        elif fault == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        elif fault in {"error", "not ready"}:
            self._respond(500 if fault == "error" else 503, b"no", retry_after="1")
        else:
            self._respond(200, b"{}" if fault == "empty" else b"<html>\xff</html>")

    def _respond(self, status: int, body: bytes, retry_after: str = "") -> None:
        registry = self.server.registry
        self.send_response(status)
        if registry.watches and not retry_after:
            self.send_header("ETag", f'W/"{registry.version}"')
            self.send_header("Age", str(registry.age_seconds))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        if status != 304:
            if status == 200 and "gzip" in self.headers.get("accept-encoding", ""):
                body = gzip.compress(body, mtime=0)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "accept-encoding")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name
        """Log nothing."""
