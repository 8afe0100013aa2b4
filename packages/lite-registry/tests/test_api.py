import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from lite_registry import FileRoutes, LiteRegistryServer, SettingsError, StaticRoutes
from lite_registry.http_client import HttpClient, HttpResponse
from lite_registry.instance import ServiceKey
from lite_registry.memory_store import MemoryStore
from lite_registry.routes import parse_routes

DOCUMENT = {"ip": "10.0.0.7", "port": 8000, "metadata": {"lane": "dev"}, "ttl_seconds": 30}
ROUTES = {"services": {"orders": {"lanes": ["prod", "dev"], "port": 8000}}}


class Client(HttpClient):
    """The client of the package, with methods that are short to write in tests."""

    def __init__(self, server: LiteRegistryServer) -> None:
        super().__init__(server.url)
        self.server = server

    async def get(self, target: str, **headers: str) -> HttpResponse:
        return await self.send("GET", target, **headers)

    async def put(self, target: str, document: object, **headers: str) -> HttpResponse:
        return await self.send("PUT", target, document, **headers)

    async def send(
        self, method: str, target: str, document: object = None, **headers: str
    ) -> HttpResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request(method, target, document=document, headers=fields)


async def wait_for_watchers(server: LiteRegistryServer, count: int) -> None:
    """Let the loop run until so many requests wait for a change."""
    for _ in range(1000):
        if server.watchers == count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within 5 s")


async def instances(client: Client, query: str = "") -> list[dict[str, object]]:
    """The listed instances of the service `orders`."""
    document = (await client.get("/v1/instances/orders" + query)).json()
    assert isinstance(document["instances"], list)
    return document["instances"]


@pytest.fixture
def client(server: LiteRegistryServer) -> Client:
    return Client(server)


@pytest.fixture
async def routed() -> AsyncIterator[Client]:
    async with LiteRegistryServer(port=0, source=StaticRoutes(parse_routes(ROUTES))) as server:
        yield Client(server)


async def test_routes_have_the_published_form(routed: Client) -> None:
    whole = (await routed.get("/v1/routes")).json()
    services = whole["services"]
    assert isinstance(services, dict)
    assert services["orders"]["lanes"] == ["dev", "prod"]
    assert services["orders"]["port"] == 8000
    assert str(whole["updated_at"]).endswith("Z")
    assert services["orders"]["lane"]["dev"]["name"] == "orders-dev"


async def test_a_single_route_is_found_by_name(routed: Client) -> None:
    route = (await routed.get("/v1/routes/orders")).json()
    assert (route["service"], route["lanes"], route["port"]) == ("orders", ["dev", "prod"], 8000)


async def test_an_unknown_service_is_reported_in_the_published_and_in_the_standard_form(
    routed: Client,
) -> None:
    response = await routed.get("/v1/routes/unknown")
    assert response.status == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"] == "service not found"
    assert response.json()["title"] == "Service not found"


async def test_two_servers_with_the_same_content_have_the_same_version(routed: Client) -> None:
    async with LiteRegistryServer(port=0, source=StaticRoutes(parse_routes(ROUTES))) as twin:
        responses = [await client.get("/v1/routes") for client in (routed, Client(twin))]
    assert responses[0].headers["etag"] == responses[1].headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_client_that_has_the_version_gets_304(routed: Client, form: str) -> None:
    etag = (await routed.get("/v1/routes")).headers["etag"]
    response = await routed.get("/v1/routes", if_none_match=form.format(etag.removeprefix("W/")))
    assert (response.status, response.body) == (304, b"")
    assert response.headers["etag"] == etag


async def test_head_has_the_headers_of_get(routed: Client) -> None:
    get, head = await routed.get("/v1/routes"), await routed.send("HEAD", "/v1/routes")
    assert head.body == b""
    assert head.headers["content-length"] == str(len(get.body))


async def test_an_instance_is_registered_listed_renewed_and_deregistered(client: Client) -> None:
    path = "/v1/instances/orders/" + quote("10.0.0.7:8000", safe="")
    created = await client.put(path, DOCUMENT)
    assert created.status == 201
    assert (await client.put(path, DOCUMENT)).status == 200
    (instance,) = await instances(client)
    assert instance["id"] == "10.0.0.7:8000"
    assert instance["etag"] == created.headers["etag"].strip('"')
    assert (await client.send("POST", path + "/renew")).status == 204
    assert (await client.get(path)).json() == instance
    assert (await client.send("DELETE", path)).status == 204
    assert (await client.send("DELETE", path)).status == 204
    assert (await client.send("POST", path + "/renew")).status == 404
    assert (await client.get(path)).status == 404
    assert await instances(client) == []


async def test_groups_and_namespaces_keep_their_instances_apart(client: Client) -> None:
    await client.put("/v1/instances/orders/a?group=red", DOCUMENT)
    for query, count in (("", 0), ("?group=red", 1), ("?group=red&namespace=n", 0)):
        assert len(await instances(client, query)) == count


async def test_a_write_on_top_of_a_stale_registration_is_refused(client: Client) -> None:
    path = "/v1/instances/orders/a"
    etag = (await client.put(path, DOCUMENT, if_none_match="*")).headers["etag"]
    assert (await client.put(path, DOCUMENT, if_none_match="*")).status == 412
    assert (await client.put(path, {**DOCUMENT, "weight": 2}, if_match=etag)).status == 200
    refused = await client.put(path, {**DOCUMENT, "weight": 3}, if_match=etag)
    assert refused.status == 412
    assert "read it again" in str(refused.json()["detail"])
    assert (await client.send("DELETE", path, if_match=etag)).status == 412


async def test_a_watch_ends_as_soon_as_something_changes(client: Client) -> None:
    version = (await client.get("/v1/instances/orders")).json()["version"]
    target = f"/v1/instances/orders?watch=1&version={version}&timeout=60s"
    watch = asyncio.create_task(client.get(target))
    await client.put("/v1/instances/orders/a", DOCUMENT)
    assert '"id":"a"' in (await watch).body.decode()


async def test_a_watch_from_another_version_ends_at_once(client: Client) -> None:
    response = await client.get("/v1/instances/orders?watch=1&version=old&timeout=60s")
    assert response.status == 200


async def test_a_watch_without_a_change_ends_with_304(client: Client) -> None:
    version = (await client.get("/v1/routes")).json()["version"]
    response = await client.get(f"/v1/routes?watch=1&version={version}&timeout=20ms")
    assert response.status == 304


async def test_waiting_requests_get_their_responses_when_the_server_stops(client: Client) -> None:
    etag = (await client.get("/v1/routes")).headers["etag"]
    watch = asyncio.create_task(client.get("/v1/routes?watch=1", if_none_match=etag))
    await wait_for_watchers(client.server, 1)
    await client.server.aclose()
    assert (await watch).status == 304


async def test_a_watcher_that_disconnects_is_removed(client: Client) -> None:
    version = (await client.get("/v1/routes")).json()["version"]
    watch = asyncio.create_task(client.get(f"/v1/routes?watch=1&version={version}"))
    await wait_for_watchers(client.server, 1)
    watch.cancel()
    await wait_for_watchers(client.server, 0)


async def test_health_and_readiness_are_two_things(client: Client) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).status == 200


async def test_a_server_that_has_no_routes_yet_is_alive_but_not_ready() -> None:
    class NeverThere(StaticRoutes):
        def start(self, published: object, metrics: object) -> None:
            pass

    async with LiteRegistryServer(port=0, source=NeverThere()) as server:
        assert (await Client(server).get("/healthz")).status == 200
        assert (await Client(server).get("/readyz")).status == 503


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/routes/../routes", 404),
        ("GET", "/v1/routes/%2e%2e", 404),
        ("GET", "/v1//routes", 404),
        ("GET", "/v1/routes/%ff", 400),
        ("GET", "/v1/instances/a%00b", 400),
        ("GET", "/v1/instances/" + "a" * 129, 400),
        ("GET", "/v1/instances/a?group=%20", 400),
        ("GET", "/v1/instances/a/b%2Fc", 400),
        ("GET", "/v1/routes?watch=1&timeout=soon", 400),
        ("GET", "/v1/routes?watch=1&timeout=601", 400),
        ("GET", "/v1/routes?" + "&".join(f"a{n}=1" for n in range(40)), 400),
        ("POST", "/v1/routes", 405),
        ("PATCH", "/v1/instances/a/b", 405),
        ("GET", "/v1/instances/a/b/renew", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "http://elsewhere/healthz", 200),
    ],
)
async def test_strange_paths_end_in_a_status_and_a_document(
    client: Client, method: str, target: str, status: int
) -> None:
    response = await client.send(method, target)
    assert response.status == status
    if status != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PATCH", "/v1/instances/a/b", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/instances/a/b/renew", "POST"),
        ("POST", "/v1/routes/orders", "GET, HEAD"),
        ("DELETE", "/nothing", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_gets_the_allowed_ones(
    client: Client, method: str, target: str, allowed: str
) -> None:
    response = await client.send(method, target)
    assert (response.status, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ip": ""}, "ip must be a text of 1 to 255 characters, not ''"),
        ({"ip": "a b"}, "ip must be a text without spaces"),
        ({"port": 65536}, "port must be a whole number from 0 to 65535, not 65536"),
        ({"port": True}, "port must be a whole number"),
        ({"weight": -1}, "weight must be a number from 0 to 1e+06, not -1"),
        ({"weight": "heavy"}, "weight must be a number"),
        ({"ttl_seconds": 0.5}, "ttl_seconds must be a number from 1 to 3600, not 0.5"),
        ({"healthy": "yes"}, "healthy must be true or false, not 'yes'"),
        ({"metadata": {"a": 1}}, "metadata must be an object whose values are texts"),
        ({"metadata": {str(n): "" for n in range(65)}}, "metadata must be at most 64 pairs"),
        ({"metadata": {"a": "b" * 5000}}, "4096 characters"),
        ({"id": "other"}, "id must be the id in the path, 'a', not 'other'"),
    ],
)
async def test_a_wrong_field_is_named_with_its_value_and_rule(
    client: Client, change: dict[str, object], message: str
) -> None:
    response = await client.put("/v1/instances/orders/a", {**DOCUMENT, **change})
    assert response.status == 400
    assert message in str(response.json()["detail"])
    assert await instances(client) == []


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 60_000, b'{"weight": NaN}'])
async def test_a_body_that_is_no_object_is_refused(client: Client, body: bytes) -> None:
    reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
    head = b"PUT /v1/instances/orders/a HTTP/1.1\r\nhost: t\r\nconnection: close\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_writing_needs_one_of_the_tokens() -> None:
    async with LiteRegistryServer(
        port=0, tokens=["the-first-token-of-two", "the-second-token-of-two"]
    ) as server:
        client = Client(server)
        path = "/v1/instances/orders/a"
        for wrong in (
            "",
            "Bearer",
            "Bearer wrong-token",
            "Basic the-first-token-of-two",
            "Bearer é",
        ):
            refused = await client.put(path, DOCUMENT, authorization=wrong)
            assert refused.status == 401
            assert "Bearer" in refused.headers["www-authenticate"]
        assert (await client.send("DELETE", path)).status == 401
        assert (await client.send("POST", path + "/renew")).status == 401
        for token in ("the-first-token-of-two", "the-second-token-of-two"):
            response = await client.put(path, DOCUMENT, authorization=f"Bearer {token}")
            assert response.status in {200, 201}
        assert (await client.get("/v1/instances/orders")).status == 200


async def test_a_broken_route_file_leaves_the_last_good_routes_and_is_marked(
    tmp_path: Path,
) -> None:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps(ROUTES))
    async with LiteRegistryServer(port=0, source=FileRoutes(file, poll_seconds=0.01)) as server:
        client = Client(server)

        async def wait_until(accept: Callable[[dict[str, object]], bool]) -> dict[str, object]:
            for _ in range(1000):
                if accept(whole := (await client.get("/v1/routes")).json()):
                    return whole
                await asyncio.sleep(0.005)
            raise AssertionError("not within 5 s")

        good = await wait_until(lambda whole: not whole["stale"])
        file.write_text("{")
        stale = await wait_until(lambda whole: bool(whole["stale"]))
        assert stale["services"] == good["services"]
        assert stale["version"] == good["version"]
        file.unlink()
        await wait_until(lambda whole: bool(whole["stale"]))
        file.write_text('{"services": {"users": {"port": 80}}}')
        fresh = await wait_until(lambda whole: not whole["stale"])
        assert fresh["version"] != good["version"]
        assert '"users"' in json.dumps(fresh)


async def test_a_watch_of_one_service_sleeps_through_changes_of_others(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    users = {"port": 80}
    file.write_text(json.dumps({"services": {**ROUTES["services"], "users": users}}))
    async with LiteRegistryServer(port=0, source=FileRoutes(file, poll_seconds=0.01)) as server:
        client = Client(server)
        etags = {
            path: (await client.get(path)).headers["etag"]
            for path in ("/v1/routes", "/v1/routes/orders", "/v1/routes/users")
        }
        waits = {
            path: asyncio.create_task(client.get(f"{path}?watch=1", if_none_match=etag))
            for path, etag in etags.items()
        }
        await wait_for_watchers(server, 3)
        file.write_text(json.dumps({"services": {**ROUTES["services"], "users": {"port": 81}}}))
        assert (await waits["/v1/routes"]).status == 200
        assert (await waits["/v1/routes/users"]).json()["port"] == 81
        assert not waits["/v1/routes/orders"].done()
        await server.aclose()
        assert (await waits["/v1/routes/orders"]).status == 304


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.test"])
def test_only_loopback_may_be_open_to_every_client(host: str) -> None:
    with pytest.raises(SettingsError, match="give a --token-file, or say --insecure"):
        LiteRegistryServer(host, port=0)
    assert LiteRegistryServer(host, port=0, insecure=True).host == host
    assert LiteRegistryServer(host, port=0, tokens=["a-token-long-enough"]).host == host


async def test_what_was_read_can_be_changed_and_put_back(client: Client) -> None:
    path = "/v1/instances/orders/a"
    await client.put(path, DOCUMENT)
    read = await client.send("GET", path)
    changed = {**read.json(), "weight": 2.0}
    assert (await client.put(path, changed, if_match=read.headers["etag"])).json()["weight"] == 2.0
    (listed,) = await instances(client)
    assert (await client.put(path, listed)).status == 200


async def test_fields_of_a_later_version_are_ignored(client: Client) -> None:
    response = await client.put("/v1/instances/orders/a", {**DOCUMENT, "colour": "red"})
    assert response.status == 201
    assert "colour" not in response.json()


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("*", "GET, HEAD, PUT, DELETE, POST, OPTIONS"),
        ("/v1/instances/a/b", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/v1/routes", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_lists_the_methods(client: Client, target: str, allowed: str) -> None:
    response = await client.send("OPTIONS", target)
    assert (response.status, response.headers["allow"]) == (204, allowed)


async def test_only_options_asks_about_the_whole_server(client: Client) -> None:
    assert (await client.send("GET", "*")).status == 404


def names(document: dict[str, object]) -> list[str]:
    services = document["services"]
    assert isinstance(services, dict)
    return sorted(services)


async def test_a_watch_may_ask_for_the_changes_only(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    services = {f"service-{n}": {"lanes": ["dev"], "port": 8000} for n in range(2000)}
    file.write_text(json.dumps({"services": services}))
    async with LiteRegistryServer(port=0, source=FileRoutes(file, poll_seconds=0.02)) as server:
        client = Client(server)
        version = (await client.get("/v1/routes")).json()["version"]
        target = f"/v1/routes?watch=1&version={version}&timeout=10s&since={version}"
        watch = asyncio.create_task(client.get(target))
        await wait_for_watchers(server, 1)
        services["service-7"] = {"lanes": [], "port": 8000}
        file.write_text(json.dumps({"services": services}))
        changed = await watch
        document = changed.json()
        assert document["since"] == version
        assert names(document) == ["service-7"]
        assert len(changed.body) < 1024
        assert (await client.get(f"/v1/routes?since={version}")).json() == document
        assert len(names((await client.get("/v1/routes?since=other")).json())) == 2000
        present = document["version"]
        unchanged = await client.get(f"/v1/routes?since={present}", if_none_match=f'"{present}"')
        assert unchanged.status == 304


@pytest.mark.parametrize(
    "fields",
    [
        '"weight": 1' + "0" * 400,
        '"ttl_seconds": 1' + "0" * 400,
        '"weight": 1' + "0" * 5000,
        '"weight": ' + "[" * 900 + "]" * 900,
        '"weight": NaN',
        '"metadata": {"a": "\\ud800"}',
        '"metadata": {"\\udc00": "a"}',
        '"cluster": "\\ud800"',
    ],
    ids=lambda fields: fields[:24] + str(len(fields)),
)
async def test_a_value_that_cannot_be_kept_is_the_clients_mistake(
    fields: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = '{"ip": "10.0.0.7", "port": 1, ' + fields + "}"
    async with LiteRegistryServer(port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            f"PUT /v1/instances/orders/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}"
        )
        writer.write(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert "defect" not in caplog.text


class CountingStore(MemoryStore):
    """Counts how often all services are listed."""

    listed = 0

    def list_services(self) -> list[ServiceKey]:
        self.listed += 1
        return super().list_services()


async def test_the_status_is_made_once_for_each_state_and_follows_every_change() -> None:
    store = CountingStore()
    async with LiteRegistryServer(port=0, store=store) as server:
        client = Client(server)
        await client.put("/v1/instances/orders/a", DOCUMENT)
        listed_before = store.listed
        first = await client.get("/v1/status")
        for _ in range(9):
            await client.get("/v1/status")
        # Once for the instance, and once for the list of changes, which follows a little later.
        assert listed_before < store.listed <= listed_before + 2
        assert str(first.json()["synced_at"]).endswith("Z")
        assert '"id": "a"' in json.dumps(first.json()["instances"])
        await client.put("/v1/instances/orders/b", DOCUMENT)
        second = await client.get("/v1/status")
        assert second.headers["etag"] != first.headers["etag"]
        assert '"id": "b"' in json.dumps(second.json()["instances"])
