import asyncio
from pathlib import Path

import pytest

from lite_registry import FileRoutes, LiteRegistryServer, SettingsError
from lite_registry.file_source import read_route_file
from lite_registry.http_client import HttpClient


def test_routes_may_be_written_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("services:\n  orders:\n    port: 8000\n    lanes: [dev]\n")
    assert sorted(read_route_file(file).routes["orders"].lanes) == ["dev"]


def test_broken_yaml_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    file.write_text("services: [\n")
    with pytest.raises(SettingsError, match="line 2: it must be YAML") as caught:
        read_route_file(file)
    assert "\n" not in str(caught.value)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


async def read_once_stale_is(stale: bool, client: HttpClient) -> dict[str, object]:
    for _ in range(1000):
        routes = (await client.request("GET", "/v1/routes")).json()
        if routes["stale"] is stale:
            return routes
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


@pytest.mark.parametrize(
    "bad",
    [
        "services: {orders: {port: 1, base: {ready: 2001-99-99}}}",
        "services: !!timestamp x",
        "services: {orders: {port: 1, base: {ready: .nan}}}",
        "services: {orders: {port: 1, base: {ready: 2001-01-01}}}",
        "services: {orders: {port: 1, base: {ready: abc}}}",
        "services: {? [a] : {port: 1}}",
        "services: [",
        f"{ALIASES}services: {{orders: {{port: *h}}}}",
    ],
    ids=lambda bad: bad[-40:],
)
async def test_a_bad_save_changes_nothing_and_the_next_good_one_is_served(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("services: {orders: {port: 1}}")
    source = FileRoutes(file, poll_seconds=0.01)
    async with LiteRegistryServer(port=0, source=source) as server:
        client = HttpClient(server.url)
        file.write_text(bad)
        routes = await read_once_stale_is(True, client)
        assert "orders" in str(routes["services"])
        assert "keeping the last valid routes" in caplog.text
        file.write_text("services: {orders: {port: 2}, more: {port: 3}}")
        routes = await read_once_stale_is(False, client)
        assert "more" in str(routes["services"])
        assert (await client.request("GET", "/metrics")).status == 200
