"""A lane three hops deep: two Starlette services and a gRPC one behind a real lite-registry."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

HERE = Path(__file__).parent

Start = Callable[..., subprocess.Popen[str]]
Answers = Callable[..., httpx.Response]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class Stranger:
    """Somebody on the internet who writes down what he is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str | None]] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.told.append((self.headers["x-lane"], self.headers["baggage"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server.server_address[1]}/"


def target(port: int) -> dict[str, object]:
    return {"name": "127.0.0.1", "port": port}


class Mesh:
    """`first` and `second` have only a base, `third` has a base and the lane `dev`."""

    def __init__(self, start: Start, answers: Answers, folder: Path) -> None:
        ports = free_ports(5)
        self.first, self.second, self.third, self.third_dev, registry = ports
        self.routes = folder / "routes.json"
        self.stranger = Stranger()
        self.publish(["dev"])
        self.registry_url = f"http://127.0.0.1:{registry}"
        serve = ("-m", "lite_registry", "serve", "--source", "file", "--linger", "0")
        program = start(*serve, "--file", str(self.routes), "--port", str(registry))
        answers(program, f"{self.registry_url}/healthz")
        start(str(HERE / "third.py"), "third", str(self.third))
        start(str(HERE / "third.py"), "third-dev", str(self.third_dev))
        for name, port in (("second", self.second), ("first", self.first)):
            arguments = (name, str(port), self.registry_url, self.stranger.url)
            answers(start(str(HERE / "hop.py"), *arguments), f"http://127.0.0.1:{port}/look")
        self.url = f"http://127.0.0.1:{self.first}"

    def publish(self, lanes: list[str]) -> None:
        lane = {"dev": target(self.third_dev)} if "dev" in lanes else {}
        services: dict[str, object] = {
            "second": {"lanes": [], "port": self.second, "base": target(self.second)},
            "third": {
                "lanes": lanes,
                "port": self.third,
                "base": target(self.third),
                "lane": lane,
            },
        }
        self.routes.write_text(json.dumps({"services": services}))

    def get(self, path: str, lane: str | None = None) -> Any:
        headers = {"x-lane": lane} if lane else {}
        answer = httpx.get(self.url + path, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def mesh(start: Start, answers: Answers, tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(start, answers, tmp_path)
    wait_until(lambda: httpx.get(f"{mesh.url}/chain", trust_env=False).status_code == 200)
    wait_until(lambda: mesh.get("/chain", "dev").json()["next"]["next"] == "third-dev:dev")
    yield mesh
    mesh.stranger.server.shutdown()
    mesh.stranger.server.server_close()


def wait_until(condition: Callable[[], bool], within_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def expected(lane: str | None, third: str) -> dict[str, Any]:
    second = {"name": "second", "lane": lane, "next": f"{third}:{lane}"}
    return {"name": "first", "lane": lane, "next": second}


def test_a_lane_reaches_the_third_hop_in_every_way(mesh: Mesh) -> None:
    # a task
    assert mesh.get("/chain", "dev").json() == expected("dev", "third-dev")
    assert mesh.get("/chain", "other").json() == expected("other", "third")
    assert mesh.get("/chain").json() == expected(None, "third")
    # a thread pool, with a blocking client and a blocking channel
    threaded = mesh.get("/thread", "dev").json()
    assert (threaded["lane"], threaded["next"]["lane"]) == ("dev", "dev")
    assert threaded["third"] == "third-dev:dev"
    assert mesh.get("/thread").json()["third"] == "third:None"
    # a background task, after the answer
    mesh.get("/background", "dev")
    wait_until(lambda: mesh.get("/look").json()["noted"] == ["dev"])
    # a body that is made while it is sent
    assert mesh.get("/streamed", "dev").text == "dev:dev;dev:dev;"
    # a WebSocket
    address = mesh.url.replace("http:", "ws:") + "/socket"
    for lane, third in (("dev", "third-dev"), ("other", "third")):
        with connect(address, additional_headers={"x-lane": lane}, proxy=None) as websocket:
            websocket.send("go")
            assert json.loads(websocket.recv()) == expected(lane, third)
    # a redirect out of the mesh leaks neither carrier
    answer = mesh.get("/redirected", "dev").json()
    assert (answer["lane"], answer["status"]) == ("dev", 200)
    assert mesh.stranger.told == [(None, "user=7")]
    # baggage is enough
    headers = {"baggage": "user=7,lane=dev"}
    answer = httpx.get(f"{mesh.url}/chain", headers=headers, trust_env=False).json()
    assert answer == expected("dev", "third-dev")
    # a lane that is taken away is served by the base, without a restart
    mesh.publish([])
    wait_until(lambda: mesh.get("/chain", "dev").json() == expected("dev", "third"))
