"""The reflector against an API server that speaks the documented protocol, and fails on demand.

tests-integration/faults plays the same faults with the real one.
"""

import asyncio
import gc
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from lite_registry.http_listener import HttpListener
from lite_registry.kubernetes.access import ApiServer
from lite_registry.kubernetes.credentials import StaticCredentials
from lite_registry.kubernetes.reflector import ApiError
from lite_registry.kubernetes.source import KubernetesRoutes
from lite_registry.metrics import Metrics
from lite_registry.published_routes import PublishedRoutes
from lite_registry.request import Request
from lite_registry.response import AnyResponse, Response, StreamResponse, build_json_response
from lite_registry.routes import Target

SERVICES = "services"
SLICES = "endpointslices"


class CutError(Exception):
    """The connection is to be cut here."""


class FakeApiServer:
    """Objects with versions, lists in pages, watches with a history; faults on request."""

    def __init__(self) -> None:
        self.listener = HttpListener(self.handle)
        self.objects: dict[str, dict[str, dict[str, Any]]] = {SERVICES: {}, SLICES: {}}
        self.history: dict[str, list[tuple[int, dict[str, Any]]]] = {SERVICES: [], SLICES: []}
        self.version = 10
        self.changed = asyncio.Event()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.responses: list[Callable[[], AnyResponse]] = []
        self.hang_up = asyncio.Event()
        self.refusing: set[str] = set()
        self.cutting = False
        self.hesitates: set[str] = set()
        self.caught_up = asyncio.Event()
        self.compacted = 0
        self.port = 0

    async def start(self) -> None:
        self.listener = HttpListener(self.handle)
        self.port = await self.listener.listen("127.0.0.1", self.port)

    async def stop(self) -> None:
        self.hang_up.set()
        await self.listener.aclose(0.0)
        self.hang_up = asyncio.Event()

    def put(self, kind: str, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        event = "MODIFIED" if name in self.objects[kind] else "ADDED"
        self.version += 1
        if event == "MODIFIED":
            item["metadata"]["uid"] = self.objects[kind][name]["metadata"]["uid"]
        item["metadata"].setdefault("uid", f"uid-{name}-{self.version}")
        item["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind][name] = item
        self._record(kind, {"type": event, "object": item})

    def delete(self, kind: str, name: str) -> None:
        self.version += 1
        item = self.objects[kind].pop(name)
        last = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        self._record(kind, {"type": "DELETED", "object": last})

    def _record(self, kind: str, event: dict[str, Any]) -> None:
        self.history[kind].append((self.version, event))
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def bookmark(self) -> None:
        self.version += 1
        meta = {"resourceVersion": str(self.version)}
        for kind in self.history:
            event = {"type": "BOOKMARK", "object": {"metadata": meta}}
            self.history[kind].append((self.version, event))
        self.wake()

    def end_watches(self, *, cut: bool) -> None:
        """End every watch; changes that it has not seen yet are not sent."""
        self.cutting = cut
        self.hang_up.set()
        self.hang_up = asyncio.Event()

    def compact(self) -> None:
        self.compacted = self.version

    def send(self, line: dict[str, Any] | bytes) -> None:
        """Put a line into every watch."""
        self.version += 1
        for kind in self.history:
            self.history[kind].append((self.version, {"raw": line}))
        self.wake()

    def lists(self, kind: str) -> int:
        return sum(name == kind and "watch" not in query for name, query in self.requests)

    def handle(self, request: Request) -> AnyResponse:
        url = urlsplit(request.target.decode())
        kind = url.path.rpartition("/")[2]
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.requests.append((kind, query))
        if self.responses:
            return self.responses.pop(0)()
        if "watch" in query:
            since = int(query["resourceVersion"])
            return StreamResponse(self._stream_events(kind, since), "application/json")
        if kind in self.refusing:
            return build_json_response(500, {"message": "on purpose"})
        return self.list_page(kind, query)

    def list_page(self, kind: str, query: dict[str, str]) -> AnyResponse:
        names = sorted(self.objects[kind])
        begin = int(query.get("continue", "0"))
        end = begin + int(query["limit"])
        meta = {"resourceVersion": str(self.version)}
        if end < len(names):
            meta["continue"] = str(end)
        items = [self.objects[kind][name] for name in names[begin:end]]
        return build_json_response(200, {"kind": "List", "metadata": meta, "items": items})

    async def _stream_events(self, kind: str, since: int) -> AsyncIterator[bytes]:
        hang_up = self.hang_up
        if kind in self.hesitates:
            yield b"\n"
            await self.caught_up.wait()
        if since < self.compacted:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            yield json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
            return
        while True:
            changed = self.changed
            for version, event in self.history[kind]:
                if version > since:
                    since = version
                    raw = event.get("raw", event)
                    if raw == b"cut":
                        yield b'{"type":"MODIFIED","object":{"meta'
                        raise CutError
                    line = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
                    yield line + b"\n"
            waits = {asyncio.create_task(e.wait()) for e in (changed, hang_up)}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if hang_up.is_set():
                if self.cutting:
                    raise CutError
                return


def service(name: str, *, port: int = 8000, ports: Any = None, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"ports": ports or [{"port": port}]},
    }


def headless(name: str, *, ports: list[dict[str, Any]], **labels: Any) -> dict[str, Any]:
    item = service(name, ports=ports, **labels)
    item["spec"]["clusterIP"] = "None"
    return item


def external(name: str, *ports: dict[str, Any], **labels: Any) -> dict[str, Any]:
    item = service(name, **labels)
    item["spec"] = {"type": "ExternalName", "externalName": "laptop.example", "ports": list(ports)}
    return item


def endpoints(name: str, *ready: bool | None, part: str = "1", **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{name}-{part}",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [
            {"addresses": [f"10.0.0.{n}"], "conditions": {"ready": is_ready}, **fields}
            for n, is_ready in enumerate(ready)
        ],
    }


class Cluster:
    """The fake server, the source under test, and time that passes only between its sleeps."""

    def __init__(self, **options: Any) -> None:
        self.api = FakeApiServer()
        self.published = PublishedRoutes()
        self.metrics = Metrics()
        self.now = 0.0
        self.slept: list[float] = []
        self.options = options
        self.shown: list[dict[str, list[str]]] = []
        self.published.subscribe(lambda _, after: self.shown.append(_lanes(after.documents)))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.api.start()
        api = ApiServer(
            f"http://127.0.0.1:{self.api.port}",
            namespace="shop",
            credentials=StaticCredentials("secret-token"),
        )
        options: dict[str, Any] = {"namespaces": ("shop",), "debounce_seconds": 0.001}
        options |= {"settle_seconds": 0.1}
        options |= {"clock": lambda: self.now, "sleep": self.sleep} | self.options
        self.source = KubernetesRoutes(api, **options)
        self.source.start(self.published, self.metrics)
        self.task = asyncio.create_task(self.source.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.api.stop()

    async def shows(self, **lanes: list[str]) -> None:
        """Wait until exactly these services with these lanes are published."""
        await until(lambda: self.published.live and _lanes(self.published.table.documents) == lanes)

    async def watching(self) -> None:
        """Wait until both watches stand."""
        await until(lambda: sum("watch" in query for _, query in self.api.requests) >= 2)


def _lanes(documents: Any) -> dict[str, list[str]]:
    return {name: document["lanes"] for name, document in documents.items()}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("not within 4 s")


def fill(api: FakeApiServer) -> None:
    api.put(SERVICES, service("orders", app="orders"))
    api.put(SERVICES, service("orders-dev", app="orders", lane="dev", port=8001))
    api.put(SLICES, endpoints("orders", True))
    api.put(SLICES, endpoints("orders-dev", True, True, False))


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        await cluster.watching()
        yield cluster


async def test_services_with_ready_endpoints_become_lanes(cluster: Cluster) -> None:
    route = cluster.published.table.routes["orders"]
    assert route.base == Target("orders", 8000, {}, ready=1)
    assert route.lanes == {"dev": Target("orders-dev", 8001, {}, ready=2)}


async def test_changes_are_followed(cluster: Cluster) -> None:
    cluster.api.put(SERVICES, service("orders-test", app="orders", lane="test"))
    cluster.api.put(SLICES, endpoints("orders-test", True))
    await cluster.shows(orders=["dev", "test"])
    cluster.api.delete(SERVICES, "orders-dev")
    await cluster.shows(orders=["test"])
    cluster.api.put(SERVICES, service("orders-test"))  # the labels are taken off
    await cluster.shows(orders=[])
    assert sum(kind == SERVICES and "watch" not in q for kind, q in cluster.api.requests) == 1


async def test_a_list_comes_in_pages_and_counts_as_a_whole() -> None:
    async with Cluster() as cluster:
        for number in range(600):
            cluster.api.put(SERVICES, service(f"s{number}", app=f"s{number}"))
        await cluster.shows(**{f"s{number}": [] for number in range(600)})
        assert len(cluster.shown) == 1


async def test_half_a_list_is_never_shown(cluster: Cluster) -> None:
    for number in range(600):
        cluster.api.put(SERVICES, service(f"s{number}", app=f"s{number}"))
    await until(lambda: len(cluster.published.table.routes) == 601)
    shown = len(cluster.shown)
    cluster.api.compact()
    list_page = cluster.api.list_page
    pages = iter(
        [
            lambda: list_page(SERVICES, {"limit": "250"}),
            lambda: Response(500),
        ]
    )
    await cluster.api.stop()
    cluster.api.responses += [next(pages), next(pages)]
    await cluster.api.start()
    cluster.api.put(SERVICES, service("s600", app="s600"))
    await until(lambda: len(cluster.published.table.routes) == 602)
    assert all(len(lanes) >= 601 for lanes in cluster.shown[shown:])


async def test_a_clean_end_of_a_watch_needs_no_new_list(cluster: Cluster) -> None:
    cluster.now += 100
    lists = sum("watch" not in query for _, query in cluster.api.requests)
    cluster.api.hang_up.set()
    await asyncio.sleep(0)
    cluster.api.hang_up = asyncio.Event()
    cluster.api.put(SLICES, endpoints("orders-dev", True, True, True))
    await until(lambda: cluster.published.table.routes["orders"].lanes["dev"].ready == 3)
    assert sum("watch" not in query for _, query in cluster.api.requests) == lists
    assert not cluster.published.stale


async def lose_and_gain(cluster: Cluster, fault: Callable[[], None]) -> None:
    """During the fault one lane goes and one comes; afterwards the table equals the cluster."""
    del cluster.api.objects[SERVICES]["orders-dev"]
    cluster.api.version += 1
    cluster.api.objects[SERVICES]["orders-test"] = service("orders-test", app="orders", lane="test")
    cluster.api.objects[SERVICES]["orders-test"]["metadata"]["uid"] = "u"
    cluster.api.objects[SLICES]["orders-test-1"] = endpoints("orders-test", True)
    fault()
    await cluster.shows(orders=["test"])
    assert not cluster.published.stale
    assert all(lanes in ({"orders": ["dev"]}, {"orders": ["test"]}) for lanes in cluster.shown[1:])


async def test_services_and_endpoints_of_different_moments_are_never_mixed() -> None:
    async with Cluster(grace_seconds=0.0) as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        await cluster.watching()
        cluster.api.refusing = {SERVICES}
        before = len(cluster.api.requests)

        def fault() -> None:
            del cluster.api.objects[SLICES]["orders-dev-1"]
            cluster.api.send({"type": "ERROR", "object": {"code": 410, "message": "gone"}})

        relief = asyncio.create_task(lose_and_gain(cluster, fault))
        await until(lambda: (SLICES, "watch") in seen_since(cluster, before))
        await asyncio.sleep(0.02)
        assert _lanes(cluster.published.table.documents) == {"orders": ["dev"]}
        cluster.api.refusing = set()
        await relief


@pytest.mark.parametrize("cut", [True, False])
async def test_a_watch_that_responds_has_not_yet_caught_up(cluster: Cluster, cut: bool) -> None:
    """The head of the response comes first, the missed changes (or 410) after it."""
    cluster.now += 100  # a stream that lived long may end without being suspected
    cluster.api.hesitates = {SLICES}
    cluster.api.put(SERVICES, service("orders-test", app="orders", lane="test"))
    cluster.api.put(SLICES, endpoints("orders-test", True))
    cluster.api.delete(SERVICES, "orders-dev")
    cluster.api.delete(SLICES, "orders-dev-1")
    before = len(cluster.api.requests)
    cluster.api.end_watches(cut=cut)
    await until(lambda: len(seen_since(cluster, before)) == 2)
    await asyncio.sleep(0.05)  # longer than changes are collected
    cluster.api.caught_up.set()
    await cluster.shows(orders=["test"])
    assert cluster.shown[-2:] == [{"orders": ["dev"]}, {"orders": ["test"]}]


def seen_since(cluster: Cluster, before: int) -> list[tuple[str, str]]:
    """The kinds and forms of the requests since then."""
    return [
        (kind, "watch" if "watch" in query else "list")
        for kind, query in cluster.api.requests[before:]
    ]


async def test_410_in_the_stream_leads_to_a_list_that_is_compared(cluster: Cluster) -> None:
    def fault() -> None:
        gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
        cluster.api.send({"type": "ERROR", "object": gone})

    await lose_and_gain(cluster, fault)


async def test_410_as_a_status_does_the_same(cluster: Cluster) -> None:
    def fault() -> None:
        cluster.api.responses += [
            lambda: build_json_response(410, {"code": 410, "message": "gone"})
        ] * 2
        cluster.api.hang_up.set()
        cluster.api.hang_up = asyncio.Event()
        cluster.api.wake()

    cluster.api.send(b"cut")
    await lose_and_gain(cluster, fault)


@pytest.mark.parametrize(
    "line",
    [
        b"cut",
        b"no json",
        b"[]",
        b"[" * 100_000,
        b'{"type":"ODD","object":{}}',
        b'{"type":"ADDED"}',
        b'{"type":"ERROR","object":{"code":"\xc2\xb2"}}',
        b'{"type":"ADDED","object":{"metadata":{"labels":["app"]},"spec":{"ports":[{}]}}}',
        b'{"type":"ADDED","object":{"metadata":{"labels":{"app":"x"}},"spec":{"ports":[{"port":"x"}]}}}',
    ],
    ids=range(9),
)
async def test_a_broken_stream_is_watched_again_from_the_last_version(
    cluster: Cluster, line: bytes
) -> None:
    cluster.api.send(line)
    cluster.api.put(SERVICES, service("users", app="users"))
    await cluster.shows(orders=["dev"], users=[])
    assert any(0.8 <= pause <= 1.6 for pause in cluster.slept)


@pytest.mark.parametrize("status", [500, 503, 403, 401])
async def test_an_error_keeps_the_known_routes_and_marks_them(
    cluster: Cluster, status: int
) -> None:
    marked: list[bool] = []

    def refuse() -> AnyResponse:
        marked.append(cluster.published.stale)
        return build_json_response(status, {"message": "on purpose"})

    cluster.api.responses += [refuse] * 7
    cluster.api.send(b"cut")
    cluster.api.put(SERVICES, service("users", app="users"))
    await cluster.shows(orders=["dev"], users=[])
    assert any(marked)
    await until(lambda: not cluster.published.stale)
    assert all("orders" in lanes for lanes in cluster.shown)


class RefusesWatches(FakeApiServer):
    """Lists can be read, and no watch ever stands."""

    def handle(self, request: Request) -> AnyResponse:
        if b"watch=1" in request.target:
            return build_json_response(429, {"message": "too many watches"})
        return super().handle(request)


async def test_the_first_lists_are_shown_even_if_no_watch_stands() -> None:
    cluster = Cluster()
    cluster.api = RefusesWatches()
    fill(cluster.api)
    async with cluster:
        await cluster.shows(orders=["dev"])
        await until(lambda: cluster.published.stale)


async def test_retry_after_of_the_server_is_obeyed(cluster: Cluster) -> None:
    busy = (("retry-after", "17"),)
    cluster.api.responses += [lambda: build_json_response(429, {"message": "slow down"}, busy)] * 2
    cluster.api.send(b"cut")
    cluster.api.put(SERVICES, service("users", app="users"))
    await cluster.shows(orders=["dev"], users=[])
    assert 17.0 in cluster.slept


@pytest.mark.parametrize(
    "value", ["\u00b2", "-1", "", "9" * 5000, "Mon, 01 Jan 99999999999999999999"]
)
async def test_a_garbled_retry_after_does_not_end_the_watch(cluster: Cluster, value: str) -> None:
    busy = (("retry-after", value),)
    cluster.api.responses += [lambda: build_json_response(429, {"message": "slow"}, busy)] * 2
    cluster.api.send(b"cut")
    cluster.api.put(SERVICES, service("users", app="users"))
    await cluster.shows(orders=["dev"], users=[])
    assert not cluster.task.done()


async def test_a_second_run_begins_with_new_lists_and_keeps_the_routes(cluster: Cluster) -> None:
    cluster.task.cancel()
    await asyncio.wait([cluster.task])
    cluster.api.put(SERVICES, service("users", app="users"))
    cluster.task = asyncio.create_task(cluster.source.run())
    await cluster.shows(orders=["dev"], users=[])
    assert cluster.source.known_objects == (3, 2)
    assert all("orders" in lanes for lanes in cluster.shown)


async def test_silence_counts_as_a_dead_connection() -> None:
    async with Cluster(silence_seconds=0.05) as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        await until(
            lambda: b'watch_restarts_total{reason="connection"}' in cluster.metrics.render()
        )
        await cluster.shows(orders=["dev"])


async def test_a_quiet_cluster_is_listed_without_a_pause_however_long_it_was_away() -> None:
    ticks = itertools.count(step=10)
    options = {"silence_seconds": 0.1, "settle_seconds": 0.01, "clock": lambda: next(ticks)}
    async with Cluster(**options) as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        shown = len(cluster.shown)
        await cluster.api.stop()
        await until(lambda: sum(cluster.slept) > 300)
        await cluster.api.start()
        await until(lambda: not cluster.published.stale)
        cluster.slept.clear()
        cluster.api.requests.clear()
        await until(lambda: min(cluster.api.lists(SERVICES), cluster.api.lists(SLICES)) > 3)
        assert not cluster.slept
        assert len(cluster.shown) == shown


async def test_a_refusing_server_gets_fewer_and_fewer_requests() -> None:
    async with Cluster() as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        await cluster.watching()
        await cluster.api.stop()
        cluster.slept.clear()
        await until(lambda: sum(cluster.slept) > 300)
        assert cluster.published.stale
        pauses = len(cluster.slept)
        assert pauses < 40
        await cluster.api.start()
        await until(lambda: not cluster.published.stale)


async def test_410_again_and_again_does_not_become_a_hot_loop() -> None:
    async with Cluster() as cluster:
        fill(cluster.api)
        cluster.api.compacted = 10_000
        await until(lambda: sum(cluster.slept) > 60)
        assert len(cluster.slept) < 20


async def test_bookmarks_move_the_version_from_which_is_watched_again(cluster: Cluster) -> None:
    cluster.api.bookmark()
    version = str(cluster.api.version)
    await asyncio.sleep(0.05)
    cluster.api.send(b"cut")
    await until(
        lambda: any(
            "watch" in query and int(query["resourceVersion"]) >= int(version)
            for _, query in cluster.api.requests
        )
    )
    assert all(
        query.get("allowWatchBookmarks") == "true"
        for _, query in cluster.api.requests
        if "watch" in query
    )


async def test_a_list_that_shrank_sharply_is_confirmed_by_a_second_one() -> None:
    async with Cluster() as cluster:
        for number in range(10):
            cluster.api.put(SERVICES, service(f"s{number}", app=f"s{number}"))
        await until(lambda: len(cluster.published.table.routes) == 10)
        await cluster.watching()
        objects = dict(cluster.api.objects[SERVICES])
        empty = {"metadata": {"resourceVersion": "99"}, "items": []}
        cluster.api.responses += [lambda: build_json_response(200, empty)]
        gone = {"code": 410, "message": "gone"}
        cluster.api.history[SERVICES].append(
            (cluster.api.version + 1, {"raw": {"type": "ERROR", "object": gone}})
        )
        cluster.api.wake()
        await until(lambda: b"shrink_guards_total" in cluster.metrics.render())
        assert 2.0 in cluster.slept
        assert len(cluster.api.objects[SERVICES]) == len(objects)
        assert all(len(lanes) == 10 for lanes in cluster.shown)


async def test_a_lane_stays_for_a_grace_period_without_a_ready_endpoint() -> None:
    async with Cluster(grace_seconds=0.1, clock=asyncio.get_running_loop().time) as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        cluster.api.put(SLICES, endpoints("orders-dev", False))
        await until(lambda: cluster.published.table.routes["orders"].lanes["dev"].ready == 0)
        assert cluster.published.table.routes["orders"].lanes["dev"].available
        await cluster.shows(orders=[])
        cluster.api.put(SLICES, endpoints("orders-dev", True))
        await cluster.shows(orders=["dev"])


async def test_a_lane_that_never_was_ready_is_not_available(cluster: Cluster) -> None:
    cluster.api.put(SERVICES, service("orders-new", app="orders", lane="new"))
    cluster.api.put(SLICES, endpoints("orders-new", False))
    await until(lambda: "new" in cluster.published.table.routes["orders"].lanes)
    await cluster.shows(orders=["dev"])


async def test_an_endpoint_in_two_slices_is_one_and_ready_may_be_left_out(
    cluster: Cluster,
) -> None:
    for part in ("1", "2"):
        item = endpoints("orders-dev", None, part=part, targetRef={"name": "pod-a"})
        cluster.api.put(SLICES, item)
    await until(lambda: cluster.published.table.routes["orders"].lanes["dev"].ready == 1)


async def test_the_port_named_http_is_the_one_and_each_lane_has_its_own(cluster: Cluster) -> None:
    ports = [{"name": "grpc", "port": 9000}, {"name": "http", "port": 8080}]
    cluster.api.put(SERVICES, service("orders-dev", app="orders", lane="dev", ports=ports))
    await until(lambda: cluster.published.table.routes["orders"].lanes["dev"].port == 8080)
    route = cluster.published.table.routes["orders"]
    assert route.lanes["dev"].ports == {"grpc": 9000, "http": 8080}
    assert route.base is not None
    assert route.base.port == 8000


async def test_what_is_not_tcp_is_no_port_of_a_route(cluster: Cluster) -> None:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "web", "port": 8080, "protocol": "TCP", "appProtocol": "https"},
        {"port": 9000},
    ]
    cluster.api.put(SERVICES, service("orders-dev", app="orders", lane="dev", ports=ports))
    await until(lambda: cluster.published.table.routes["orders"].lanes["dev"].port == 8080)
    lane = cluster.published.table.routes["orders"].lanes["dev"]
    assert lane.ports == {"web": 8080}
    assert lane.app_protocols == {"web": "https"}
    assert lane.to_document()["app_protocols"] == {"web": "https"}


async def test_the_name_of_a_headless_service_leads_to_the_ports_of_its_endpoints(
    cluster: Cluster,
) -> None:
    ports = [
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "grpc", "port": 81, "targetPort": 9001},
        {"name": "admin", "port": 82, "targetPort": "nobody-has-it"},
    ]
    cluster.api.put(SERVICES, headless("orders-dev", app="orders", lane="dev", ports=ports))

    def lane() -> dict[str, int]:
        return dict(cluster.published.table.routes["orders"].lanes["dev"].ports)

    await until(lambda: lane() == {"http": 80, "grpc": 9001, "admin": 82})
    for part, port, ready in (("1", 8001, [True]), ("2", 8000, [True, True]), ("3", 8001, [])):
        item = endpoints("orders-dev", *ready, part=part)
        item["ports"] = [
            {"name": "http", "port": port, "protocol": "TCP"},
            {"name": "http", "port": 5353, "protocol": "UDP"},
            {"name": "every"},
        ]
        cluster.api.put(SLICES, item)
    # Two endpoints listen on 8000; one, and a slice without any, on 8001: as many, so the smaller.
    await until(lambda: lane() == {"http": 8000, "grpc": 9001, "admin": 82})
    assert cluster.published.table.routes["orders"].lanes["dev"].port == 8000


async def test_a_lane_may_be_a_host_outside_of_the_cluster(cluster: Cluster) -> None:
    port = {"name": "http", "port": 8123}
    cluster.api.put(SERVICES, external("orders-laptop", port, app="orders", lane="laptop"))
    await cluster.shows(orders=["dev", "laptop"])
    lane = cluster.published.table.routes["orders"].lanes["laptop"]
    assert (lane.name, lane.port, lane.ready) == ("orders-laptop", 8123, None)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (service("x", app="Big_Label"), "label"),
        (service("x", app="orders", lane="udp", ports=[{"port": 53, "protocol": "UDP"}]), "port"),
        (external("x", app="orders", lane="nowhere"), "port"),
        (service("x", app="orders", lane="d.v"), "label"),
        (service("x", app="orders", lane="d" * 60), "label"),
        (service("orders-other", app="orders"), "collision"),
        (service("other", app="orders", lane="dev"), "collision"),
    ],
)
async def test_a_service_that_cannot_be_a_route_is_skipped_and_counted(
    cluster: Cluster, odd: dict[str, Any], reason: str
) -> None:
    cluster.api.put(SERVICES, odd)
    expected = f'rejected_services{{reason="{reason}"}} 1'.encode()
    await until(lambda: expected in cluster.metrics.render())
    await cluster.shows(orders=["dev"])


async def test_a_lane_whose_name_would_be_the_base_of_another_service_is_left_out(
    cluster: Cluster,
) -> None:
    cluster.api.put(SERVICES, service("a-b", app="a-b"))
    cluster.api.put(SERVICES, service("odd", app="a", lane="b"))
    cluster.api.put(SLICES, endpoints("odd", True))
    await cluster.shows(orders=["dev"], **{"a-b": []})
    await until(lambda: b'reason="collision"} 1' in cluster.metrics.render())


async def test_an_object_made_again_under_its_name_is_not_deleted_with_the_old_one(
    cluster: Cluster,
) -> None:
    old = service("orders", app="orders")
    old["metadata"] |= {"uid": "uid-of-an-earlier-one", "resourceVersion": "11"}
    cluster.api.send({"type": "DELETED", "object": old})
    cluster.api.put(SERVICES, service("users", app="users"))
    await cluster.shows(orders=["dev"], users=[])


async def test_a_service_outside_of_the_home_namespace_carries_its_namespace(
    cluster: Cluster,
) -> None:
    elsewhere = service("users", app="users")
    elsewhere["metadata"]["namespace"] = "other"
    cluster.api.put(SERVICES, elsewhere)
    await cluster.shows(orders=["dev"], **{"users.other": []})
    base = cluster.published.table.routes["users.other"].base
    assert base is not None
    assert base.name == "users.other"


@pytest.mark.slow
async def test_a_day_of_events_leaves_memory_as_it_was() -> None:
    """100,000 events: more than one a second for 24 hours."""
    async with Cluster() as cluster:
        fill(cluster.api)
        await cluster.shows(orders=["dev"])
        await cluster.watching()
        middle = 0
        for number in range(100_000):
            name = f"orders-l{number % 50}"
            if name in cluster.api.objects[SERVICES]:
                cluster.api.delete(SERVICES, name)
            else:
                cluster.api.put(SERVICES, service(name, app="orders", lane=f"l{number % 50}"))
            if number % 100 == 99:
                await asyncio.sleep(0.002)
                for kind in (SERVICES, SLICES):
                    del cluster.api.history[kind][:-400]
            if number == 30_000:
                middle = traced()
        await until(lambda: cluster.source.known_objects[0] == 2)
        assert traced() - middle < 2_000_000  # the history of the stand-in included
    tracemalloc.stop()


def traced() -> int:
    """Bytes that Python holds; the first call begins to count."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    cluster_bytes, _ = tracemalloc.get_traced_memory()
    return cluster_bytes


async def test_the_token_is_never_shown() -> None:
    async with Cluster() as cluster:
        await cluster.shows()
        assert "secret-token" not in repr(cluster.source)
    assert "429" in str(ApiError(429, "slow down"))
