"""What the pods' own Prometheus metrics say, read from outside through the API server."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import httpx
from kubernetes_namespace import Namespace, through_api_server

__all__ = ("PodMetrics", "Scraper", "requests_in")

EVERY_SECONDS = 2.0
_COUNT = re.compile(r"^http_server_request_duration_seconds_count\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def requests_in(text: str, route: str = "/chain") -> dict[str, int]:
    """Requests of one route so far, by status."""
    found: dict[str, int] = {}
    for labels, value in _COUNT.findall(text):
        label = dict(_LABEL.findall(labels))
        if label.get("http_route") == route:
            status = label["http_response_status_code"]
            found[status] = found.get(status, 0) + int(float(value))
    return found


class PodMetrics:
    """`/metrics` of the pods of one namespace, through the API server."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            base = stack.enter_context(through_api_server(self._namespace))
            self._http = stack.enter_context(
                httpx.Client(base_url=f"{base}/pods", trust_env=False, timeout=5.0)
            )
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._open.close()

    def pods(self) -> dict[str, str]:
        """Each running pod of the shop: its name, and who it is (`orders-dev-v1`)."""
        items = self._http.get("", params={"labelSelector": "app,lane"}).raise_for_status().json()
        running = [pod for pod in items["items"] if pod["status"].get("phase") == "Running"]
        return {pod["metadata"]["name"]: _who(pod) for pod in running}

    def text(self, pod: str, port: int = 8000) -> str:
        """All metrics of a pod."""
        return self._http.get(f"/{pod}:{port}/proxy/metrics").raise_for_status().text


def _who(pod: dict[str, dict[str, object]]) -> str:
    labels, version = pod["metadata"]["labels"], "1"
    assert isinstance(labels, dict)
    for container in pod["spec"]["containers"]:  # type: ignore[attr-defined]
        for variable in container.get("env", ()):
            if variable["name"] == "MICROSERVICE_VERSION":
                version = variable["value"]
    return f"{labels['app']}-{labels['lane']}-v{version}"


class Scraper:
    """Scrapes every pod from time to time and tells what was added since, while it is open."""

    def __init__(self, metrics: PodMetrics, tell: Callable[..., None]) -> None:
        self._metrics = metrics
        self._tell = tell
        self._before: dict[str, dict[str, int]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            try:
                pods = self._metrics.pods()
            except (httpx.HTTPError, ValueError):
                continue  # the API server restarts
            for pod, who in pods.items():
                try:
                    self._add(pod, who, requests_in(self._metrics.text(pod)))
                except httpx.HTTPError:
                    continue  # it starts, stops, or is the one that was stopped

    def _add(self, pod: str, who: str, now: dict[str, int]) -> None:
        before = self._before.get(pod, {})
        if any(now.get(status, 0) < count for status, count in before.items()):
            before = {}  # the process began anew
        self._before[pod] = now
        added = {status: count - before.get(status, 0) for status, count in now.items()}
        served = sum(added.values())
        if served:
            failed = sum(count for status, count in added.items() if status >= "500")
            self._tell(second=int(time.time()), pod=who, served=served, failed=failed)
