"""Reading and watching documents: absence, outages, local copies, many listeners."""

import asyncio
import hashlib
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nacos_client import (
    AsyncNacosClient,
    ClientClosedError,
    Config,
    ConfigDeleted,
    ConfigNotFound,
    NacosClient,
    NacosError,
    ServerUnavailableError,
    SnapshotError,
    WatchStatus,
)
from nacos_client.testing import FakeNacosServer
from nacos_client.testing.contract import wait_until

READS = ("GET", "/v3/client/cs/config")
LISTS = ("GET", "/v3/admin/cs/config/list")


def connect(server: FakeNacosServer, **options: Any) -> NacosClient:
    return NacosClient(server.address, username="nacos", password="nacos", **options)


def aconnect(server: FakeNacosServer, **options: Any) -> AsyncNacosClient:
    defaults: dict[str, Any] = {"config_poll_seconds": 0.05, **options}
    return AsyncNacosClient(server.address, username="nacos", password="nacos", **defaults)


def copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_not_found_is_read_again(server: FakeNacosServer) -> None:
    with connect(server) as nacos:
        nacos.admin.publish("app.yaml", "a: 1")
        server.inject("not_found", "/client/cs/config")
        assert nacos.config.get("app.yaml").content == "a: 1"


def test_a_repr_does_not_show_content(server: FakeNacosServer) -> None:
    with connect(server) as nacos:
        nacos.admin.publish("app.yaml", "password: hunter2")
        text = repr(nacos.config.get("app.yaml")) + repr(nacos.admin.get("app.yaml"))
        nacos.admin.publish("app.yaml", "password: hunter2", beta_ips=["10.0.0.1"])
        text += repr(nacos.admin.beta("app.yaml"))
        version = next(nacos.admin.history("app.yaml"))
        text += repr(nacos.admin.version("app.yaml", version.version_id))
    assert "hunter2" not in text


class TestSnapshot:
    """The local copy that is used while no server responds."""

    def test_a_new_client_reads_it_while_the_server_is_down(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            original = nacos.config.get("app.yaml")
        server.stop()
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            copy = nacos.config.get("app.yaml")
            with pytest.raises(ServerUnavailableError):
                nacos.config.get("other.yaml")
        assert copy.source == "snapshot"
        assert (copy.content, copy.md5, copy.content_type, copy.last_modified) == (
            original.content,
            original.md5,
            original.content_type,
            original.last_modified,
        )

    def test_it_lies_under_its_namespace_and_only_the_owner_may_read_it(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1", namespace="blue", group="G")
            nacos.config.get("app.yaml", namespace="blue", group="G")
        (path,) = copies(tmp_path)
        assert path.parts[-3:] == ("blue", "G", "app.yaml.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_another_namespace_or_server_does_not_see_it(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
        server.stop()
        with (
            connect(server, snapshot_dir=str(tmp_path), namespace="blue") as nacos,
            pytest.raises(ServerUnavailableError),
        ):
            nacos.config.get("app.yaml")
        with (
            NacosClient("127.0.0.1:1", snapshot_dir=str(tmp_path)) as nacos,
            pytest.raises(ServerUnavailableError),
        ):
            nacos.config.get("app.yaml")

    @pytest.mark.parametrize(
        "spoil",
        [lambda b: b[:-3], lambda _: b"", lambda b: b"\xff" + b],
        ids=["truncated", "empty", "garbage"],
    )
    def test_a_truncated_or_damaged_one_is_refused_by_name(
        self, server: FakeNacosServer, tmp_path: Path, spoil: Callable[[bytes], bytes]
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
            server.stop()
            (path,) = copies(tmp_path)
            path.write_bytes(spoil(path.read_bytes()))
            with pytest.raises(SnapshotError, match=r"app\.yaml\.json is damaged") as caught:
                nacos.config.get("app.yaml")
        assert isinstance(caught.value.__cause__, ServerUnavailableError)

    def test_one_of_another_namespace_laid_in_its_place_is_refused(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            for namespace in ("blue", "green"):
                nacos.admin.publish("app.yaml", f"in: {namespace}", namespace=namespace)
                nacos.config.get("app.yaml", namespace=namespace)
            blue, green = copies(tmp_path)
            green.write_bytes(blue.read_bytes())
            server.stop()
            with pytest.raises(SnapshotError, match="belongs to another document"):
                nacos.config.get("app.yaml", namespace="green")

    def test_one_that_cannot_be_read_is_a_named_error(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
            (path,) = copies(tmp_path)
            path.unlink()
            path.mkdir()
            server.stop()
            with pytest.raises(SnapshotError, match="cannot be read"):
                nacos.config.get("app.yaml")

    def test_a_confirmed_deletion_removes_it(self, server: FakeNacosServer, tmp_path: Path) -> None:
        with connect(server, snapshot_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
            nacos.admin.delete("app.yaml")
            with pytest.raises(ConfigNotFound):
                nacos.config.get("app.yaml")
        assert copies(tmp_path) == []

    def test_a_folder_that_cannot_be_written_is_logged_once_and_costs_nothing_else(
        self, server: FakeNacosServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        with connect(server, snapshot_dir=str(tmp_path / "file")) as nacos:
            for content in ("a: 1", "a: 2"):
                nacos.admin.publish("app.yaml", content)
                assert nacos.config.get("app.yaml").content == content
        assert sum("cannot write snapshots" in each.message for each in caplog.records) == 1

    def test_an_empty_folder_name_turns_it_off(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        with connect(server, snapshot_dir="") as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
            server.stop()
            with pytest.raises(ServerUnavailableError):
                nacos.config.get("app.yaml")
        assert copies(tmp_path) == []

    def test_going_over_to_it_and_back_is_logged_once_each(
        self, server: FakeNacosServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nacos_client")
        with connect(server, server_rest_seconds=0.01) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.get("app.yaml")
            server.stop()
            for _ in range(2):
                assert nacos.config.get("app.yaml").source == "snapshot"
            server.start()
            for _ in range(2):
                assert nacos.config.get("app.yaml").source == "server"
        lines = [record.message for record in caplog.records]
        assert sum("from local snapshots" in line for line in lines) == 1
        assert sum("from the server again" in line for line in lines) == 1


class TestFailoverFolder:
    """Documents laid down by an operator."""

    def test_one_wins_over_the_server(self, server: FakeNacosServer, tmp_path: Path) -> None:
        path = tmp_path / "public" / "DEFAULT_GROUP" / "app.yaml"
        path.parent.mkdir(parents=True)
        with connect(server, failover_dir=str(tmp_path)) as nacos:
            nacos.admin.publish("app.yaml", "from: server")
            path.write_text("from: operator")
            config = nacos.config.get("app.yaml")
            assert (config.content, config.source) == ("from: operator", "failover")
            assert config.md5 == hashlib.md5(b"from: operator", usedforsecurity=False).hexdigest()
            path.unlink()
            assert nacos.config.get("app.yaml").content == "from: server"

    def test_one_that_is_not_utf_8_is_a_named_error(
        self, server: FakeNacosServer, tmp_path: Path
    ) -> None:
        path = tmp_path / "public" / "DEFAULT_GROUP" / "app.yaml"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\xff\xfe")
        with (
            connect(server, failover_dir=str(tmp_path)) as nacos,
            pytest.raises(SnapshotError, match=r"app\.yaml is not usable"),
        ):
            nacos.config.get("app.yaml")


class TestWatch:
    """Listeners hear each state once, the newest only, never two at a time."""

    async def test_ten_listeners_of_one_document_cost_one_poll(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[list[str]] = [[] for _ in range(10)]
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            for each in heard:
                nacos.config.watch("app.yaml", lambda c, each=each: each.append(c.content))  # type: ignore[misc]
            await wait_until(lambda: all(heard))
            server.requests.clear()
            await nacos.admin.publish("app.yaml", "a: 2")
            await wait_until(lambda: all(each[-1] == "a: 2" for each in heard))
            assert server.requests.count(READS) < 10
        assert heard == [["a: 1", "a: 2"]] * 10

    async def test_a_late_listener_gets_the_known_state_without_a_read(
        self, server: FakeNacosServer
    ) -> None:
        async with aconnect(server, config_poll_seconds=3600) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            first: list[Config] = []
            nacos.config.watch("app.yaml", first.append)
            await wait_until(lambda: first)
            reads = server.requests.count(READS)
            late: list[Config] = []
            nacos.config.watch("app.yaml", late.append)
            await wait_until(lambda: late)
            assert server.requests.count(READS) == reads

    async def test_a_listener_that_fails_is_logged_and_hears_the_next_change(
        self, server: FakeNacosServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[str] = []

        def clumsy(config: Config) -> None:
            heard.append(config.content)
            raise RuntimeError("my own fault")

        other: list[str] = []
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.watch("app.yaml", clumsy)
            nacos.config.watch("app.yaml", lambda config: other.append(config.content))
            await wait_until(lambda: heard == ["a: 1"])
            await nacos.admin.publish("app.yaml", "a: 2")
            await wait_until(lambda: heard == other == ["a: 1", "a: 2"])
        assert "my own fault" in caplog.text

    async def test_a_slow_listener_sees_the_newest_state_and_never_runs_twice_at_once(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[str] = []
        running = 0
        go_on = asyncio.Event()

        async def slow(config: Config) -> None:
            nonlocal running
            running += 1
            assert running == 1
            heard.append(config.content)
            await go_on.wait()
            running -= 1

        follow: list[str] = []
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 0")
            nacos.config.watch("app.yaml", slow)
            nacos.config.watch("app.yaml", lambda config: follow.append(config.content))
            for number in range(1, 4):
                await wait_until(lambda: follow and heard)
                await nacos.admin.publish("app.yaml", f"a: {number}")
                await wait_until(lambda number=number: follow[-1] == f"a: {number}")  # type: ignore[misc]
            assert heard == ["a: 0"]
            go_on.set()
            await wait_until(lambda: heard == ["a: 0", "a: 3"])

    async def test_what_changed_and_changed_back_while_a_listener_was_busy_is_no_news_to_it(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[str] = []
        go_on = asyncio.Event()

        async def slow(config: Config) -> None:
            heard.append(config.content)
            await go_on.wait()

        follow: list[str] = []
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 0")
            nacos.config.watch("app.yaml", slow)
            nacos.config.watch("app.yaml", lambda config: follow.append(config.content))
            await wait_until(lambda: heard and follow)
            for content in ("a: 1", "a: 0"):
                await nacos.admin.publish("app.yaml", content)
                await wait_until(lambda content=content: follow[-1] == content)  # type: ignore[misc]
            go_on.set()
            await nacos.admin.publish("app.yaml", "a: 2")
            await wait_until(lambda: heard[-1] == "a: 2")
        assert heard == ["a: 0", "a: 2"]

    async def test_a_stopped_watch_ends_its_poll(self, server: FakeNacosServer) -> None:
        async with aconnect(server, config_poll_seconds=0.02) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            heard: list[Config] = []
            stops = [nacos.config.watch("app.yaml", heard.append) for _ in range(2)]
            await wait_until(lambda: len(heard) == 2)
            assert nacos.config.watch_status == WatchStatus(watched=1, failing=0)
            for stop in (*stops, stops[0]):
                stop()
            await wait_until(lambda: nacos.config.watch_status.watched == 0)
            server.requests.clear()
            await nacos.admin.publish("app.yaml", "a: 2")
            assert server.requests.count(READS) == 0

    async def test_an_outage_calls_no_listener_and_the_watch_continues(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[object] = []
        async with aconnect(
            server, server_rest_seconds=0.01, timeout_seconds=0.5, snapshot_dir=""
        ) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.watch("app.yaml", heard.append, on_deleted=heard.append)
            await wait_until(lambda: len(heard) == 1)
            server.stop()
            await wait_until(lambda: nacos.config.watch_status.failing == 1)
            with pytest.raises(NacosError):
                await nacos.naming.instances("orders")
            server.start()
            await nacos.admin.publish("app.yaml", "a: 2")
            await wait_until(lambda: len(heard) == 2)
        assert [each.content for each in heard if isinstance(each, Config)] == ["a: 1", "a: 2"]

    async def test_without_a_server_a_watch_begins_with_the_snapshot(
        self, server: FakeNacosServer
    ) -> None:
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            await nacos.config.get("app.yaml")
        server.stop()
        heard: list[Config] = []
        async with aconnect(server, timeout_seconds=0.5) as nacos:
            nacos.config.watch("app.yaml", heard.append)
            await wait_until(lambda: [each.source for each in heard] == ["snapshot"])

    async def test_a_first_failure_is_reported_once_and_followed_by_the_document(
        self, server: FakeNacosServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nacos_client")
        server.inject("forbidden", "/client/cs/config", times=3)
        heard: list[Config] = []
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.watch("app.yaml", heard.append)
            await wait_until(lambda: heard)
        lines = [record.message for record in caplog.records if "watch of" in record.message]
        assert len(lines) == 2

    async def test_a_watch_outside_of_an_event_loop_is_refused(
        self, server: FakeNacosServer
    ) -> None:
        nacos = aconnect(server)
        with pytest.raises(RuntimeError, match="no running event loop"):
            await asyncio.to_thread(nacos.config.watch, "app.yaml", print)
        await nacos.aclose()
        with pytest.raises(ClientClosedError):
            nacos.config.watch("app.yaml", print)

    def test_listeners_of_a_sync_client_run_on_threads_and_may_be_async(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[tuple[str, str]] = []
        arrived = threading.Semaphore(0)

        def plain(config: Config) -> None:
            heard.append((config.content, threading.current_thread().name))
            arrived.release()

        async def asynchronous(config: Config) -> None:
            await asyncio.sleep(0)
            plain(config)

        with connect(server, config_poll_seconds=0.05) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.watch("app.yaml", plain)
            nacos.config.watch("app.yaml", asynchronous)
            assert all(arrived.acquire(timeout=10) for _ in range(2))
        assert {content for content, _ in heard} == {"a: 1"}
        assert threading.current_thread().name not in {name for _, name in heard}

    async def test_many_watched_documents_are_found_changed_by_one_list(
        self, server: FakeNacosServer
    ) -> None:
        names = [f"app-{number}.yaml" for number in range(60)]
        heard: dict[str, list[str]] = {name: [] for name in names}
        async with aconnect(server, config_poll_seconds=0.4) as nacos:
            for name in names:
                await nacos.admin.publish(name, "a: 1")
                nacos.config.watch(name, lambda c: heard[c.data_id].append(c.content))
            await wait_until(lambda: all(heard.values()))
            await wait_until(lambda: server.requests.count(LISTS) > 5)
            server.requests.clear()
            began = time.monotonic()
            await wait_until(lambda: server.requests.count(LISTS) > 10)
            # Each document is still read itself, but not within 4 x 0.8 of the interval.
            reads_each = (time.monotonic() - began) / (0.4 * 0.8 * 4) + 1
            assert server.requests.count(READS) <= 60 * reads_each
            changed = names[10:40]
            for name in changed:
                await nacos.admin.publish(name, "a: 2")
            lists = server.requests.count(LISTS)
            await wait_until(lambda: all(heard[name] == ["a: 1", "a: 2"] for name in changed))
            assert server.requests.count(LISTS) - lists <= 2
            await nacos.admin.delete(names[8])
        assert all(each == ["a: 1"] for name, each in heard.items() if name not in changed)

    async def test_a_user_who_may_not_list_reads_one_by_one(self, server: FakeNacosServer) -> None:
        server.add_user("reader", "pw", [("public:DEFAULT_GROUP:config/*", "r")])
        heard: set[str] = set()
        async with aconnect(server) as admin:
            for number in range(40):
                await admin.admin.publish(f"app-{number}.yaml", "a: 1")
            async with AsyncNacosClient(
                server.address, username="reader", password="pw", config_poll_seconds=0.2
            ) as nacos:
                for number in range(40):
                    nacos.config.watch(f"app-{number}.yaml", lambda c: heard.add(c.content))
                await wait_until(lambda: server.requests.count(LISTS))
                await admin.admin.publish("app-7.yaml", "a: 2")
                await wait_until(lambda: "a: 2" in heard)
        assert server.requests.count(LISTS) == 1

    async def test_a_beta_is_noticed_although_the_list_does_not_know_it(
        self, server: FakeNacosServer
    ) -> None:
        heard: list[str] = []
        async with aconnect(server, config_poll_seconds=0.1) as nacos:
            for number in range(40):
                await nacos.admin.publish(f"app-{number}.yaml", "a: 1")
                nacos.config.watch(f"app-{number}.yaml", lambda c: heard.append(c.content))
            await wait_until(lambda: len(heard) == 40)
            await nacos.admin.publish("app-7.yaml", "beta: 1", beta_ips=["127.0.0.1"])
            await wait_until(lambda: "beta: 1" in heard)


class TestChanges:
    """The iterator form."""

    async def test_it_yields_the_present_state_and_then_each_change(
        self, server: FakeNacosServer
    ) -> None:
        async with aconnect(server) as nacos, nacos.config.changes("app.yaml") as changes:
            contents: list[str] = []
            async for state in changes:
                contents.append(state.content if isinstance(state, Config) else "deleted")
                if len(contents) == 1:
                    await nacos.admin.publish("app.yaml", "a: 1")
                elif len(contents) == 2:
                    await nacos.admin.delete("app.yaml")
                else:
                    break
        assert contents == ["deleted", "a: 1", "deleted"]

    async def test_closing_it_ends_the_loop_that_waits(self, server: FakeNacosServer) -> None:
        async with aconnect(server) as nacos:
            changes = nacos.config.changes("app.yaml")
            seen: list[object] = []

            async def follow() -> None:
                async for state in changes:
                    seen.extend([state])

            task = asyncio.create_task(follow())
            await wait_until(lambda: seen)
            await changes.aclose()
            await task

    def test_the_sync_iterator_does_the_same(self, server: FakeNacosServer) -> None:
        with connect(server, config_poll_seconds=0.05) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            with nacos.config.changes("app.yaml") as changes:
                iterator = iter(changes)
                assert next(iterator).data_id == "app.yaml"
                nacos.admin.delete("app.yaml")
                assert isinstance(next(iterator), ConfigDeleted)
                with pytest.raises(TimeoutError):
                    changes.next(0.05)
            with pytest.raises(StopIteration):
                next(iterator)
            nacos.config.changes("never-begun.yaml").close()

    async def test_waiting_for_a_change_returns_the_next_version(
        self, server: FakeNacosServer
    ) -> None:
        async with aconnect(server) as nacos:
            await nacos.admin.publish("app.yaml", "a: 1")
            first = await nacos.config.get("app.yaml")
            waiting = asyncio.create_task(nacos.config.wait_for_change("app.yaml", md5=first.md5))
            other = asyncio.create_task(nacos.config.wait_for_change("app.yaml"))
            number = 2
            while not (waiting.done() and other.done()):
                await nacos.admin.publish("app.yaml", f"a: {number}")
                number += 1
            for each in (await waiting, await other):
                assert isinstance(each, Config)
                assert each.content != "a: 1"
            at_once = await nacos.config.wait_for_change("app.yaml", md5=first.md5)
            assert isinstance(at_once, Config)
            with pytest.raises(TimeoutError):
                await nacos.config.wait_for_change("app.yaml", timeout_seconds=0.1)

    def test_the_sync_client_waits_too(self, server: FakeNacosServer) -> None:
        with connect(server, config_poll_seconds=0.05) as nacos:
            nacos.admin.publish("app.yaml", "a: 1")
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                nacos.config.wait_for_change("app.yaml", timeout_seconds=0.1)
            assert time.monotonic() > began
