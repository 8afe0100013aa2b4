"""The route table over the network: faults of the registry, and the table that survives them."""

import contextlib
import dataclasses
import functools
import inspect
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lane_router import AsyncLaneRouter, LaneRouter
from lane_router.route_table.poll_schedule import PollSchedule
from lane_router.route_table.poller import PollOptions, RoutePoller, TableState
from lane_router.route_table.registry_client import RegistryClient, RegistryUnreachableError
from lane_router.route_table.table import RouteTable
from lane_router.route_table.table_file import TableFile
from lane_router.routing.resolver import RoutingOptions
from lane_router.testing import FakeRouteRegistry, Fault, Services
from microservice_core import InvalidValueError

ONE = {"orders": {"lanes": ["dev"], "port": 8000}}
TWO = {"orders": {"lanes": ["dev", "test"], "port": 8000}}
MANY = {f"service-{n}": {"lanes": ["dev"], "port": 8000} for n in range(10)}


def until(condition: Callable[[], bool], within_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + within_seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)


@pytest.fixture
def registry() -> Iterator[FakeRouteRegistry]:
    with FakeRouteRegistry(ONE) as registry:
        yield registry


def open_router(url: str, **options: object) -> LaneRouter:
    """A router that polls often, with a poller of its own."""
    settings = {"poll_seconds": 0.05, "timeout_seconds": 2.0, "confirm_seconds": 0.05, **options}
    return LaneRouter(url, share=False, rng=random.Random(1), **settings)  # type: ignore[arg-type]


def test_no_request_is_sent_before_the_first_use(registry: FakeRouteRegistry) -> None:
    router = open_router(registry.url)
    assert not router.polling
    assert registry.targets == []
    router.resolve("orders")
    assert router.polling
    router.close()
    router.close()
    assert not router.polling


def test_a_change_arrives_by_long_poll_without_repeated_requests(
    registry: FakeRouteRegistry,
) -> None:
    with open_router(registry.url, poll_seconds=30.0) as router:
        assert router.wait_ready()
        assert router.resolve("orders", "test").outcome == "base_fallback"
        assert registry.wait_for_requests(2)
        assert f"watch=1&version={registry.version}&timeout=55s" in registry.targets[1]
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        assert router.lanes("orders") == ("dev", "test")
        assert len(registry.targets) <= 4


def test_only_the_changes_are_sent_after_the_first_table(tmp_path: Path) -> None:
    snapshot = tmp_path / "routes.json"
    with FakeRouteRegistry(MANY) as registry:
        with open_router(registry.url, poll_seconds=30.0, snapshot=snapshot) as router:
            assert router.wait_ready()
            registry.publish({**MANY, "service-1": {"lanes": ["red"], "port": 81}, **TWO})
            until(lambda: router.resolve("service-1", "red").outcome == "lane")
            assert router.lanes("orders") == ("dev", "test")
            assert router.resolve("service-2", "dev").outcome == "lane"
            without = {name: entry for name, entry in MANY.items() if name != "service-1"}
            registry.publish(without)
            until(lambda: router.resolve("service-1", "red").outcome == "foreign")
            assert router.resolve("service-2", "dev").outcome == "lane"
            assert registry.deltas_sent == 2
        until(lambda: b"service-1" not in snapshot.read_bytes())
        registry.stop()
        with open_router(registry.url, snapshot=snapshot) as router:
            assert router.resolve("service-2", "dev").outcome == "lane"


def test_a_registry_that_cannot_send_changes_sends_the_whole_table() -> None:
    with FakeRouteRegistry(ONE, deltas=False) as registry, open_router(registry.url) as router:
        assert router.wait_ready()
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        assert registry.deltas_sent == 0


class ConfusedRegistry(FakeRouteRegistry):
    """Sends changes that do not fit, to clients that request changes."""

    def __init__(self, services: Services, confused: dict[str, object]) -> None:
        super().__init__(services)
        self.confused = confused

    def encode_routes(self, since: str = "") -> bytes:
        if since:
            return json.dumps({"version": self.version, **self.confused}).encode()
        return super().encode_routes()


@pytest.mark.parametrize(
    "confused",
    [
        {"since": "another version", "services": {}, "removed": []},
        {"since": None, "services": {}, "removed": []},
        {"since": "SINCE", "services": [], "removed": []},
        {"since": "SINCE", "services": {}},
    ],
)
def test_changes_that_do_not_fit_are_not_used(confused: dict[str, object]) -> None:
    with ConfusedRegistry(ONE, confused) as registry:
        confused["since"] = registry.version if confused["since"] == "SINCE" else confused["since"]
        with open_router(registry.url) as router:
            assert router.wait_ready()
            registry.publish(TWO)
            until(lambda: router.resolve("orders", "test").outcome == "lane")


def test_changes_that_were_not_requested_are_not_used() -> None:
    class Eager(FakeRouteRegistry):
        def encode_routes(self, since: str = "") -> bytes:
            return json.dumps({"since": "", "services": {}, "removed": []}).encode()

    with Eager(ONE) as registry, open_router(registry.url) as router:
        until(lambda: "were not requested" in router.stats().problem)


def test_without_a_long_poll_it_polls_plainly() -> None:
    with FakeRouteRegistry(ONE, watches=False) as registry, open_router(registry.url) as router:
        assert router.wait_ready()
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        assert not any("watch" in target for target in registry.targets)


class Impatient(FakeRouteRegistry):
    """Ends this many long-polls at once, as a registry that drains does; None = all of them."""

    def __init__(self, services: Services, unheld: int | None) -> None:
        super().__init__(services)
        self.unheld = unheld

    def wait_for_change(self, version: str, seconds: float) -> None:
        """Block, unless this long-poll is not held."""
        if self.unheld is None:
            return
        self.unheld -= 1
        if self.unheld < 0:
            super().wait_for_change(version, seconds)


def test_a_server_that_ignores_the_long_poll_is_not_polled_in_a_hot_loop() -> None:
    delays: list[float] = []

    def record_delay(stop: threading.Event, delay: float) -> None:
        delays.append(delay)
        stop.wait(0.001 if len(delays) < 9 else 60)

    with Impatient(ONE, None) as registry:
        poller = RoutePoller(registry.url, PollOptions(rng=random.Random(1)), wait=record_delay)
        poller.start()
        until(lambda: len(delays) >= 9)
        poller.close()
    assert len([delay for delay in delays if delay < 1]) <= 4
    assert min(delays[-4:]) >= 24


def test_a_server_that_starts_to_hold_long_polls_is_watched_from_then_on() -> None:
    with Impatient(ONE, None) as registry, open_router(registry.url, poll_seconds=0.1) as router:
        assert registry.wait_for_requests(6)
        registry.unheld = 0
        requests = len(registry.targets)
        assert registry.wait_for_requests(requests + 1)
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        assert len(registry.targets) <= requests + 4


def test_quick_responses_while_it_drains_do_not_end_the_watch() -> None:
    with Impatient(ONE, 2) as registry, open_router(registry.url, poll_seconds=3000.0) as router:
        assert registry.wait_for_requests(4)
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")


def test_a_version_with_the_same_routes_does_not_end_the_watch(
    registry: FakeRouteRegistry,
) -> None:
    def services_with(note: int) -> Services:
        return {"orders": {"lanes": ["dev"], "port": 8000, "note": note}}

    with open_router(registry.url, poll_seconds=3000.0) as router:
        for number in range(5):
            assert registry.wait_for_requests(number + 2)
            registry.publish(services_with(number))
        assert registry.wait_for_requests(7)
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")


@pytest.mark.parametrize("fault", ["error", "empty", "garbage", "cut", "not ready"])
def test_a_registry_that_fails_leaves_the_last_good_table(
    registry: FakeRouteRegistry, fault: Fault
) -> None:
    with open_router(registry.url, watch_seconds=0.1) as router:
        assert router.wait_ready()
        registry.fault = fault
        until(lambda: router.problem != "")
        assert router.resolve("orders", "dev").outcome == "lane"
        registry.fault = None
        until(lambda: router.problem == "")


def test_a_registry_that_does_not_respond_delays_no_resolution(registry: FakeRouteRegistry) -> None:
    registry.fault = "silent"
    with open_router(registry.url, services={"orders": 8000}, timeout_seconds=0.2) as router:
        assert router.resolve("orders", "dev").outcome == "base_no_table"
        assert registry.wait_for_requests(2)
        until(lambda: "time" in router.problem.lower())
        registry.fault = None
        until(lambda: router.resolve("orders", "dev").outcome == "lane")


def test_a_registry_that_is_down_at_the_start_is_used_once_it_is_up() -> None:
    registry = FakeRouteRegistry(ONE)
    registry.start()
    registry.stop()
    with open_router(registry.url, services={"orders": 8000}) as router:
        until(lambda: "refused" in router.problem)
        assert router.resolve("orders", "dev").outcome == "base_no_table"
        assert router.resolve("orders").outcome == "base"
        assert not router.wait_ready(0.0)
        registry.start()
        until(lambda: router.resolve("orders", "dev").outcome == "lane")
    registry.stop()


def test_down_for_ten_minutes_the_last_good_table_is_stale_and_stays() -> None:
    class Clock:
        ahead = 0.0

        def __call__(self) -> float:
            return time.monotonic() + self.ahead

    clock = Clock()
    registry = FakeRouteRegistry(ONE)
    registry.start()
    with open_router(registry.url, clock=clock) as router:
        assert router.wait_ready()
        assert router.resolve("orders", "dev").outcome == "lane"
        registry.stop()
        until(lambda: router.problem != "")
        clock.ahead = 600.0
        assert router.resolve("orders", "dev").outcome == "lane_stale"
        assert router.resolve("orders", "absent").outcome == "base_stale"
        assert 600.0 <= router.resolve("orders", "dev").age_seconds < 700.0
        registry.start()
        until(lambda: router.resolve("orders", "dev").outcome == "lane")
    registry.stop()


def test_trap_9_a_table_that_lost_most_of_itself_is_believed_when_it_is_confirmed() -> None:
    with (
        FakeRouteRegistry(MANY) as registry,
        open_router(registry.url, confirm_seconds=60.0) as router,
    ):
        assert router.wait_ready()
        assert registry.wait_for_requests(2)
        registry.publish({})
        until(lambda: router.stats().confirming)
        assert router.resolve("service-1", "dev").outcome == "lane"
    with FakeRouteRegistry(MANY) as registry, open_router(registry.url) as router:
        assert router.wait_ready()
        registry.publish(ONE)
        until(lambda: router.resolve("service-1", "dev").outcome == "foreign")


def test_a_new_table_forgets_that_a_lane_refused(registry: FakeRouteRegistry) -> None:
    with open_router(registry.url) as router:
        assert router.wait_ready()
        router.mark_unreachable("orders", "dev")
        assert router.resolve("orders", "dev").outcome == "base_fallback"
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "dev").outcome == "lane")


def test_the_age_the_registry_admits_counts(registry: FakeRouteRegistry) -> None:
    registry.age_seconds = 500
    with open_router(registry.url) as router:
        assert router.wait_ready()
        resolution = router.resolve("orders", "dev")
        assert resolution.outcome == "lane_stale"
        assert resolution.age_seconds >= 500.0


def test_the_snapshot_serves_a_start_without_the_registry(
    registry: FakeRouteRegistry, tmp_path: Path
) -> None:
    path = tmp_path / "routes.json"
    with open_router(registry.url, snapshot=path) as router:
        assert router.wait_ready()
        until(path.exists)
    registry.stop()
    with open_router(registry.url, snapshot=path) as router:
        assert router.resolve("orders", "dev").outcome == "lane"
    late = open_router(registry.url, snapshot=path, wall_clock=lambda: time.time() + 3600.0)
    with late as router:
        assert router.resolve("orders", "dev").outcome == "lane_stale"
    too_late = open_router(
        registry.url, snapshot=path, wall_clock=lambda: time.time() + 8 * 86_400.0
    )
    with too_late as router:
        assert router.resolve("orders", "dev").outcome == "foreign"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 1}', '{"schema": 1, "synced_at": 5}', "\x00"])  # fmt: skip
def test_a_broken_snapshot_is_not_used(tmp_path: Path, content: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text(content)
    with open_router("http://127.0.0.1:9", services={"orders": 1}, snapshot=path) as router:
        assert router.resolve("orders", "dev").outcome == "base_no_table"


def test_a_disk_that_refuses_harms_nothing(registry: FakeRouteRegistry, tmp_path: Path) -> None:
    with open_router(registry.url, snapshot=tmp_path / "absent" / "routes.json") as router:
        assert router.wait_ready()
        assert router.resolve("orders", "dev").outcome == "lane"


async def test_the_async_router_fetches(registry: FakeRouteRegistry) -> None:
    async with AsyncLaneRouter(services={"registry": registry.port}) as router:
        with pytest.raises(OSError, match=r"."):
            await router.fetch("registry", "/v1/routes")
    routes = {"me": {"base": {"name": "127.0.0.1", "port": registry.port}}}
    static = AsyncLaneRouter.from_document({"services": routes})
    assert (await static.fetch("me", "/v1/routes")).status == 200
    assert static.problem == ""


async def test_the_async_router_does_the_same(registry: FakeRouteRegistry) -> None:
    async with AsyncLaneRouter(registry.url) as router:
        assert await router.wait_ready()
        assert router.base_url("orders", "dev") == "http://orders-dev:8000"
    assert not router.polling
    await router.aclose()


def test_routers_of_one_registry_share_one_poller(registry: FakeRouteRegistry) -> None:
    with LaneRouter(registry.url) as first, LaneRouter(registry.url, mode="strict") as second:
        assert first.wait_ready()
        assert second.wait_ready()
        assert sum("watch" not in target for target in registry.targets) == 1
        assert second.resolve("orders", "dev").outcome == "lane"
        first.close()
        assert second.polling
        assert sum(t.name == "lane-router-poller" for t in threading.enumerate()) == 1
    assert not second.polling


def test_a_router_that_does_not_share_has_a_poller_of_its_own(registry: FakeRouteRegistry) -> None:
    with LaneRouter(registry.url) as first, LaneRouter(registry.url, share=False) as second:
        assert first.wait_ready()
        assert second.wait_ready()
        first.close()
        assert not first.polling
        assert second.polling


def test_routers_with_clocks_of_their_own_share_no_poller(registry: FakeRouteRegistry) -> None:
    with (
        LaneRouter(registry.url, clock=functools.partial(time.monotonic)) as first,
        LaneRouter(registry.url, clock=functools.partial(time.monotonic)) as second,
    ):
        assert first.wait_ready()
        assert second.wait_ready()
        first.close()
        assert not first.polling


@pytest.mark.parametrize("options", [PollOptions, RoutingOptions])
def test_the_routers_arguments_have_the_defaults_of_the_options(options: type[Any]) -> None:
    arguments = inspect.signature(LaneRouter).parameters
    for field in dataclasses.fields(options):
        assert arguments[field.name].default == field.default, field.name


def test_listeners_are_called_with_each_change_until_they_unsubscribe(
    registry: FakeRouteRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    tables: list[RouteTable] = []

    def fail(table: RouteTable) -> None:
        raise RuntimeError("broken")

    with open_router(registry.url) as router:
        router.subscribe(fail)
        unsubscribe = router.subscribe(tables.append)
        assert router.wait_ready()
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        until(lambda: bool(tables) and tables[-1] is router.table)
        assert "a listener of the route table failed" in caplog.text
        unsubscribe()
        unsubscribe()
        count = len(tables)
        registry.publish(ONE)
        until(lambda: router.resolve("orders", "test").outcome == "base_fallback")
        assert len(tables) == count


def test_a_fault_of_ours_is_logged_and_does_not_end_the_polling(
    registry: FakeRouteRegistry, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class BrokenFile(TableFile):
        """Fails once, in a way that saving a file should not."""

        failures = 1

        def save(self, body: bytes, synced_at: float) -> None:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("broken")

    poller = RoutePoller(
        registry.url,
        PollOptions(poll_seconds=0.05, rng=random.Random(1)),
        file=BrokenFile(tmp_path / "routes.json"),
    )
    states: list[TableState] = []

    def fail(state: TableState) -> None:
        raise RuntimeError("broken")

    poller.subscribe(fail)
    poller.subscribe(states.append)
    poller.start()
    until(lambda: "RuntimeError: broken" in [state.problem for state in states])
    until(lambda: states[-1].problem == "")
    assert "failed unexpectedly; trying again" in caplog.text
    assert "a listener of the routes" in caplog.text
    poller.unsubscribe(fail)
    assert poller.is_running
    poller.unsubscribe(states.append)
    assert not poller.is_running


def test_a_router_that_was_closed_answers_from_the_last_table(registry: FakeRouteRegistry) -> None:
    router = open_router(registry.url)
    with router:
        assert router.wait_ready()
    assert router.resolve("orders", "dev").outcome == "lane"
    assert router.resolve("orders", "other").outcome == "base_fallback"
    assert not router.polling
    with router:
        assert router.polling


FORK = """
import os, sys, time
from lane_router import LaneRouter
router = LaneRouter(sys.argv[1])
router.start()
assert router.wait_ready()
for lane in ("dev", "test", None):
    router.resolve("orders", lane)  # from now on in the cache, where nothing looks at threads
child = os.fork()
if child == 0:
    assert not router.polling, "a thread cannot survive a fork"
    assert router.resolve("orders", "dev").outcome == "lane"
    assert router.polling
    print("child", flush=True)
    while router.resolve("orders", "test").outcome != "lane":
        time.sleep(0.01)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert router.polling, "the parent's poller lives on"
while router.resolve("orders", "test").outcome != "lane":
    time.sleep(0.01)
assert os.waitstatus_to_exitcode(status) == 0
router.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_trap_15_a_forked_child_gets_a_poller_of_its_own(registry: FakeRouteRegistry) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORK, registry.url],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "child\n"
            registry.publish(TWO)
            assert program.wait(30) == 0
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "orders"}, "url must be the registry's address"),
        ({"url": "http://user:secret@x"}, "url must be the registry's address"),
        ({"url": "http://x:99999"}, "url must be an address with a port"),
        ({"services": {"Or ders": 1}}, "services must be the plain name"),
        ({"services": {"orders": 0}}, r"services\['orders'\] must be a port"),
        ({"mode": "loose"}, "mode must be"),
        ({"stale_after_seconds": 0}, "stale_after_seconds must be a number of seconds above 0"),
        ({"namespaces": ["a.b"]}, "namespaces must be the name of a namespace"),
        ({"cluster_domain": "X"}, "cluster_domain must be"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        LaneRouter(**options)  # type: ignore[arg-type]


def test_a_registry_behind_tls_that_cannot_be_trusted_is_a_problem(
    registry: FakeRouteRegistry,
) -> None:
    with open_router(registry.url.replace("http:", "https:"), services={"orders": 1}) as router:
        until(lambda: "SSL" in router.problem or "ssl" in router.problem)
        assert router.resolve("orders", "dev").outcome == "base_no_table"


def raw_server(response: bytes) -> tuple[socket.socket, str]:
    """A server that sends this response to its first client, and keeps the connection open."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(response)
                connection.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "timed out"),
        (b"HTTP/1.1 301 Moved\r\nlocation: http://evil/\r\n\r\n", "HTTP 301"),
        (b"HTTP/1.1 503 No\r\nretry-after: \xb2\r\ncontent-length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "no table is cached"),
    ],
)
def test_a_response_that_is_not_usable_is_named(response: bytes, problem: str) -> None:
    listener, url = raw_server(response)
    with listener, open_router(url, timeout_seconds=0.3) as router:
        router.start()
        until(lambda: problem in router.problem)
        assert router.table.size == 0


def test_a_response_without_end_is_cut_off() -> None:
    flood = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (17 * 1024 * 1024)
    listener, url = raw_server(flood)
    client = RegistryClient(url, timeout_seconds=20.0)
    with listener, pytest.raises(RegistryUnreachableError, match="larger than"):
        client.get_routes()


def test_a_response_that_arrives_byte_by_byte_is_cut_off_at_its_deadline() -> None:
    listener, url = raw_server(b"HTTP/1.1 200 OK\r\n\r\n{}")
    times = iter([0.0, 100.0])
    client = RegistryClient(url, timeout_seconds=5.0, clock=lambda: next(times, 100.0))
    with listener, pytest.raises(RegistryUnreachableError, match="did not end in time"):
        client.get_routes()


def test_trap_10_pods_of_one_rollout_do_not_stay_in_phase() -> None:
    first = [PollSchedule(rng=random.Random(seed)).delay_after_poll() for seed in range(200)]
    assert min(first) < 3.0
    assert max(first) > 27.0
    schedule = PollSchedule(rng=random.Random(7))
    schedule.delay_after_poll()
    later = [schedule.delay_after_poll() for _ in range(200)]
    assert 24.0 <= min(later) < 25.0
    assert 35.0 < max(later) <= 36.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_do_not_poll_in_phase() -> None:
    schedule = PollSchedule()  # made before the fork, as with a preloaded application
    seen = set()
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, repr(schedule.delay_after_poll()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        seen.add(os.read(reading, 100))
        os.close(reading)
    assert len(seen) == 3


def test_failures_back_off_and_honour_retry_after() -> None:
    schedule = PollSchedule(rng=random.Random(7))
    delays = [schedule.delay_after_failure() for _ in range(12)]
    assert delays[0] < 1.0
    assert all(15.0 <= delay <= 45.0 for delay in delays[-4:])
    assert schedule.delay_after_failure(retry_after_seconds=120.0) == 120.0
    assert schedule.delay_after_failure(retry_after_seconds=1e9) == 300.0
    schedule.delay_after_watch()
    assert schedule.delay_after_failure() < 1.0


def test_whatever_ends_the_polling_is_logged_counted_and_restarted(
    registry: FakeRouteRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even SystemExit ends the thread without a word."""
    failing = threading.Event()
    poller = RoutePoller(registry.url, PollOptions(poll_seconds=0.05, rng=random.Random(1)))

    def end_thread(state: TableState) -> None:
        if failing.is_set():
            raise SystemExit(3)

    poller.subscribe(end_thread)
    failing.set()
    poller.start()
    until(lambda: poller.unforeseen_errors > 1)
    assert "SystemExit" in poller.state.problem
    assert "failed unexpectedly; trying again" in caplog.text
    assert poller.is_running
    failing.clear()
    until(lambda: poller.state.problem == "")
    poller.close()


def test_a_router_says_that_its_polling_failed(
    registry: FakeRouteRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_routes = RegistryClient.get_routes

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a line nobody foresaw")

    monkeypatch.setattr(RegistryClient, "get_routes", fail)
    with open_router(registry.url) as router:
        until(lambda: router.stats().unforeseen_errors > 1)
        assert "nobody foresaw" in router.stats().problem
        assert router.stats().polling
        monkeypatch.setattr(RegistryClient, "get_routes", get_routes)
        until(lambda: router.stats().problem == "")
        assert router.resolve("orders", "dev").outcome == "lane"


def test_a_thread_that_does_not_start_fails_no_lookup_and_is_started_later(
    registry: FakeRouteRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Clock:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    start = threading.Thread.start
    tries: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name != "lane-router-poller":
            return start(thread)
        tries.append(thread.name)
        raise RuntimeError("can't start new thread")

    caplog.set_level("WARNING", logger="lane_router")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    router = open_router(registry.url, services={"orders": 8000}, clock=clock)
    assert router.resolve("orders").outcome == "base"
    for number in range(50):
        router.resolve("orders", f"lane-{number}")
    assert len(tries) == 1
    assert "can't start new thread" in router.stats().problem
    assert not router.polling
    assert caplog.text.count("does not start") == 1
    monkeypatch.setattr(threading.Thread, "start", start)
    clock.now += 1
    until(lambda: router.resolve("orders", "dev").outcome == "lane")
    assert router.polling
    router.close()
