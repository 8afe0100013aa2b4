"""The FastAPI service of the README, started as it stands."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from lane_router.testing import FakeRouteRegistry

Start = Callable[..., subprocess.Popen[str]]
Answers = Callable[..., httpx.Response]


@contextmanager
def orders(name: str) -> Iterator[int]:
    """A copy of the service called, which tells its name and the lane it hears of."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{name} {self.headers['x-lane']}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_two_lines_make_a_service_lane_aware(
    start: Start, answers: Answers, free_port: int
) -> None:
    with orders("base") as base, orders("dev") as dev:
        service = {
            "lanes": ["dev"],
            "base": {"name": "127.0.0.1", "port": base},
            "lane": {"dev": {"name": "127.0.0.1", "port": dev}},
        }
        with FakeRouteRegistry({"orders": service}) as registry:
            url = f"http://127.0.0.1:{free_port}"
            serve = ("-m", "uvicorn", "examples.lane_aware:app", "--port", str(free_port))
            program = start(*serve, environment={"LANE_ROUTER_URL": registry.url})
            answers(program, f"{url}/docs")
            # The table is fetched beside the first call, which may still go out without it.
            httpx.get(f"{url}/checkout", trust_env=False)
            registry.wait_for_requests(2)
            for lane, told in (("dev", "dev dev"), ("other", "base other"), (None, "base None")):
                headers = {"x-lane": lane} if lane else {}
                answer = httpx.get(f"{url}/checkout", headers=headers, trust_env=False)
                assert answer.json() == {"orders": told}
