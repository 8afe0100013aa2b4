import json
import os
import stat
from pathlib import Path

import pytest

from lite_registry import FileRoutes, LiteRegistryServer, StaticRoutes
from lite_registry.http_client import HttpClient
from lite_registry.snapshot import SnapshotFile

INSTANCE = {"ip": "10.0.0.7", "port": 8000, "ttl_seconds": 600}


class Silent(StaticRoutes):
    """A source that never publishes, such as a cluster that cannot be reached."""

    def start(self, published: object, metrics: object) -> None:
        pass


async def serve_once(snapshot: Path, routes: Path) -> None:
    async with LiteRegistryServer(port=0, source=FileRoutes(routes), snapshot=snapshot) as server:
        client = HttpClient(server.url)
        await client.request("PUT", "/v1/instances/orders/a", document=INSTANCE)


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    file = tmp_path / "routes.json"
    file.write_text('{"services": {"orders": {"port": 8000, "lanes": ["dev"]}}}')
    return file


async def test_after_a_restart_without_its_source_the_last_good_is_served_and_marked(
    tmp_path: Path, routes: Path
) -> None:
    snapshot = tmp_path / "snapshot.json"
    await serve_once(snapshot, routes)
    async with LiteRegistryServer(port=0, source=Silent(), snapshot=snapshot) as server:
        client = HttpClient(server.url)
        ready = await client.request("GET", "/readyz")
        assert (ready.status, ready.json()["source"]) == (200, "disk")
        whole = (await client.request("GET", "/v1/routes")).json()
        assert whole["stale"] is True
        assert '"dev"' in json.dumps(whole["services"])
        listed = (await client.request("GET", "/v1/instances/orders")).json()
        assert '"10.0.0.7"' in json.dumps(listed["instances"])
        assert listed["settled"] is False  # it may have died meanwhile


async def test_the_source_takes_over_as_soon_as_it_publishes(tmp_path: Path, routes: Path) -> None:
    snapshot = tmp_path / "snapshot.json"
    await serve_once(snapshot, routes)
    routes.write_text('{"services": {"users": {"port": 80}}}')  # noqa: ASYNC240
    async with LiteRegistryServer(port=0, source=FileRoutes(routes), snapshot=snapshot) as server:
        whole = (await HttpClient(server.url).request("GET", "/v1/routes")).json()
        assert whole["stale"] is False
        assert '"users"' in json.dumps(whole["services"])
        assert '"orders"' not in json.dumps(whole["services"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        pytest.param(b"[" * 100_000, id="nested without end"),
        b"{}",
        b'{"schema": 2, "written_at": 9e9, "sections": {}}',
        (
            b'{"schema": 1, "written_at": 1, "sections": {"routes": {"services": {"orders": {"port": 80}},'
            b'"updated_at": 1, "synced_at": 1}}}'
        ),
        b'{"schema": 1, "written_at": 9e9, "sections": {"routes": {"services": 1}}}',
        b'{"schema": 1, "written_at": 9e9, "sections": {"leases": {"epoch": "x"}}}',
        (
            b'{"schema": 1, "written_at": 9e9, "sections": {"leases": {"epoch": "x", "instances": '
            b'[{"service": ["orders", "", ""], "instance": {"id": "a", "ip": "", "port": 1}}]}}}'
        ),
        b'{"schema": 1, "written_at": 9e9, "sections": [1]}',
        b'{"schema": 1, "written_at": 9e9, "sections": {"routes": [1], "leases": [1]}}',
        b'{"schema": 1, "written_at": 9e9, "sections": {"leases": {"epoch": 1, "instances": [1]}}}',
        b'{"schema": 1, "written_at": 9e9, "sections": {"leases": {"epoch": 1, "instances": 1}}}',
        (
            b'{"schema": 1, "written_at": 9e9, "sections": {"leases": {"epoch": 1, "instances": '
            b'[{"service": [1, [], {}], "instance": {"id": "a"}}]}}}'
        ),
        (
            b'{"schema": 1, "written_at": 9e9, "sections": {"routes": {"services": {"a": {"port": 1}},'
            b'"updated_at": 1' + b"0" * 400 + b', "synced_at": 1}}}'
        ),
        (
            b'{"schema": 1, "written_at": 9e9, "sections": {"routes": {"services": {"a": {"port": 1,'
            b'"base": {"ports": {"\\ud800": 1}}}}, "updated_at": 1, "synced_at": 1}}}'
        ),
        b'{"schema": 1, "written_at": 1' + b"0" * 5000 + b"}",
    ],
)
async def test_a_snapshot_that_cannot_be_believed_is_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_bytes(content)
    async with LiteRegistryServer(port=0, source=Silent(), snapshot=snapshot) as server:
        client = HttpClient(server.url)
        assert (await client.request("GET", "/readyz")).status == 503
        assert (await client.request("GET", "/v1/instances/orders")).json()["instances"] == []


def test_a_disk_that_does_not_take_it_is_counted_and_the_old_one_stays(tmp_path: Path) -> None:
    failures: list[int] = []
    folder = tmp_path / "gone"
    file = SnapshotFile(folder / "snapshot", on_failure=lambda: failures.append(1))
    file.write({"a": 1})
    file.write({"a": 1})
    assert len(failures) == 2
    folder.mkdir()
    file.write({"a": 2})
    assert file.read() == {"a": 2}
    assert [path.name for path in folder.iterdir()] == ["snapshot"]


def test_a_writer_that_died_half_way_leaves_the_last_one_readable(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "snapshot")
    file.write({"a": 1})
    (tmp_path / ".snapshot.999.new").write_text('{"schema": 1, "writ')
    assert SnapshotFile(tmp_path / "snapshot").read() == {"a": 1}


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such modes")
def test_only_the_owner_can_read_a_snapshot(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "snapshot")
    for leftover in (False, True):
        if leftover:
            (tmp_path / f".snapshot.{os.getpid()}.new").touch(mode=0o666)
        file.write({"a": 1})
        assert stat.S_IMODE((tmp_path / "snapshot").stat().st_mode) == 0o600


async def test_damaged_routes_take_nothing_from_the_leases(tmp_path: Path, routes: Path) -> None:
    snapshot = tmp_path / "snapshot.json"
    await serve_once(snapshot, routes)
    document = json.loads(snapshot.read_bytes())
    document["sections"]["routes"] = [1]
    snapshot.write_text(json.dumps(document))
    async with LiteRegistryServer(port=0, source=Silent(), snapshot=snapshot) as server:
        listed = await HttpClient(server.url).request("GET", "/v1/instances/orders")
        assert '"10.0.0.7"' in json.dumps(listed.json()["instances"])
