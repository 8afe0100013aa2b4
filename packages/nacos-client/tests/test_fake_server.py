"""The fake as users meet it: faults, clock, raw HTTP, ASGI."""

import gc
import json
import socket
from typing import Any

import httpx
import pytest

from nacos_client import NacosClient, NacosError
from nacos_client.testing import FakeNacosServer, ManualClock


def connect(server: FakeNacosServer, **options: Any) -> NacosClient:
    return NacosClient(server.address, username="nacos", password="nacos", **options)


def raw(server: FakeNacosServer, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, f"http://{server.address}{path}", trust_env=False, **options)


@pytest.fixture
def open_server() -> Any:
    with FakeNacosServer(auth=False) as server:
        yield server


def test_an_instance_without_beats_turns_unhealthy_and_is_removed_by_the_clock() -> None:
    clock = ManualClock()
    with FakeNacosServer(clock=clock) as server, connect(server) as nacos:
        nacos.naming.register("orders", "10.0.0.1", 80)
        clock.advance(14.9)
        assert nacos.naming.instances("orders")[0].healthy
        clock.advance(0.1)
        assert not nacos.naming.instances("orders")[0].healthy
        assert list(nacos.naming.instances("orders", healthy_only=True)) == []
        nacos.naming.beat("orders", "10.0.0.1", 80)
        assert nacos.naming.instances("orders")[0].healthy
        clock.advance(30)
        assert list(nacos.naming.instances("orders")) == []


def test_connections_accepted_while_the_server_stops_are_closed() -> None:
    server = FakeNacosServer()
    for _ in range(100):
        server.start()
        host, port = server.address.split(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(8)]
        server.stop()
        for client in clients:
            client.close()
    gc.collect()


def test_a_document_is_seen_by_clients_after_the_publish_delay_only() -> None:
    clock = ManualClock()
    with (
        FakeNacosServer(clock=clock, publish_delay_seconds=1) as server,
        connect(server) as nacos,
    ):
        nacos.admin.publish("app.yaml", "a: 1")
        with pytest.raises(NacosError):
            nacos.config.get("app.yaml")
        assert nacos.admin.get("app.yaml").content == "a: 1"
        clock.advance(1)
        assert nacos.config.get("app.yaml").content == "a: 1"


def test_a_token_expires_by_the_clock() -> None:
    clock = ManualClock()
    with FakeNacosServer(clock=clock, token_seconds=60) as server, connect(server) as nacos:
        nacos.naming.instances("orders")
        clock.advance(60)
        nacos.naming.instances("orders")
        assert [path for _, path in server.requests].count("/v3/auth/user/login") == 2


def test_faults_hit_as_often_as_asked_and_can_be_cleared(server: FakeNacosServer) -> None:
    with connect(server) as nacos:
        fault = server.inject("forbidden", "/instance/list", times=5)
        for _ in range(2):
            with pytest.raises(NacosError):
                nacos.naming.instances("orders")
        assert fault.times == 3
        server.clear_faults()
        assert list(nacos.naming.instances("orders")) == []


@pytest.mark.parametrize("kind", ["garbage", "html"])
def test_faulty_bodies_are_errors_of_the_client(server: FakeNacosServer, kind: Any) -> None:
    with connect(server) as nacos:
        server.inject(kind, "/instance/list")
        with pytest.raises(NacosError):
            nacos.naming.instances("orders")


def test_forgotten_instances_and_a_restart_on_the_same_port(server: FakeNacosServer) -> None:
    address = server.address
    with connect(server) as nacos:
        nacos.naming.register("orders", "10.0.0.1", 80)
        server.forget_instances()
        assert list(nacos.naming.instances("orders")) == []
        server.restart()
        server.start()
        assert server.address == address
        nacos.naming.register("orders", "10.0.0.1", 80)


def test_a_port_in_use_is_an_os_error() -> None:
    other = FakeNacosServer()
    with other:
        taken_port = int(other.address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", taken_port)):
        with pytest.raises(OSError, match="address already in use"):
            other.start()
        other.stop()


async def test_it_is_an_async_context_manager_too() -> None:
    async with FakeNacosServer() as server:
        assert server.address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nacos/v3/nowhere", 404, "No endpoint GET /nacos/v3/nowhere."),
        ("GET", "/v3/client/cs/config", 404, "No endpoint"),
        ("GET", "/nacos/v3/client/cs/config?dataId=a", 400, "'groupName'"),
        ("GET", "/nacos/v3/client/cs/config?dataId=a/b&groupName=G", 400, "'dataId' is illegal"),
        ("GET", "/nacos/v3/client/ns/instance/list", 400, "'serviceName'"),
        ("GET", "/nacos/v3/admin/cs/config?dataId=a", 400, "'groupName'"),
        ("POST", "/nacos/v3/admin/cs/config?dataId=a&groupName=G&content=%20", 400, "content"),
        ("POST", "/nacos/v3/client/ns/instance?serviceName=s&ip=i&port=1&weight=-1", 400, "21001"),
        (
            "POST",
            '/nacos/v3/client/ns/instance?serviceName=s&ip=i&port=1&metadata={"preserved.heart.beat.interval":"99999"}',
            400,
            "21004",
        ),
        ("PUT", "/nacos/v3/admin/ns/instance?serviceName=s&ip=i&port=1", 404, "no matched ip"),
        ("POST", "/nacos/v3/admin/core/namespace?namespaceId=public&namespaceName=p", 400, "22002"),
        ("POST", "/nacos/v3/admin/cs/config/import?namespaceId=public", 200, "100003"),
        ("GET", "/nacos/v3/admin/core/state/liveness", 200, "ok"),
    ],
)
def test_refusals_have_the_real_servers_status_and_words(
    open_server: FakeNacosServer, method: str, path: str, status: int, words: str
) -> None:
    response = raw(open_server, method, path)
    assert response.status_code == status
    assert words in response.text


def test_metadata_may_be_written_as_pairs(open_server: FakeNacosServer) -> None:
    parameters = {"serviceName": "s", "ip": "1.1.1.1", "port": "1", "metadata": "a=1,b=2,broken"}
    raw(open_server, "POST", "/nacos/v3/client/ns/instance", data=parameters)
    found = raw(open_server, "GET", "/nacos/v3/client/ns/instance/list?serviceName=s").json()
    assert found["data"][0]["metadata"] == {"a": "1", "b": "2"}


def test_a_service_with_instances_cannot_be_deleted(open_server: FakeNacosServer) -> None:
    with NacosClient(open_server.address) as nacos:
        nacos.naming.register("orders", "10.0.0.1", 80)
        with pytest.raises(NacosError, match="is not empty"):
            nacos.admin.delete_service("orders")
        with pytest.raises(NacosError, match="not exist"):
            nacos.admin.delete_service("nobody")


def test_imports_of_a_zip_without_metadata_and_clones_of_nothing_are_refused(
    open_server: FakeNacosServer,
) -> None:
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("G/a.yaml", "a: 1")
    with NacosClient(open_server.address) as nacos:
        with pytest.raises(NacosError, match="metadata illegal"):
            nacos.admin.import_configs(file.getvalue())
        with pytest.raises(NacosError, match="data is empty"):
            nacos.admin.clone([], target_namespace="public")


def test_a_token_is_also_taken_from_a_parameter_as_the_real_server_does(
    server: FakeNacosServer,
) -> None:
    form = {"username": "nacos", "password": "nacos"}
    token = raw(server, "POST", "/nacos/v3/auth/user/login", data=form).json()["accessToken"]
    path = "/nacos/v3/client/ns/instance/list?serviceName=s"
    assert raw(server, "GET", path).status_code == 403
    assert raw(server, "GET", f"{path}&accessToken={token}").status_code == 200
    assert raw(server, "GET", path, headers={"accessToken": token}).status_code == 200
    assert raw(server, "GET", f"{path}&accessToken=bad").status_code == 403


def test_a_client_that_hangs_up_early_or_sends_nonsense_does_no_harm(
    open_server: FakeNacosServer,
) -> None:
    host, port = open_server.address.split(":")
    for sent in (
        b"",
        b"GET / HT",
        b"\r\n\r\n",
        b"x" * 100_000,
        b"GET / HTTP/1.1\r\ncontent-length: z\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert raw(open_server, "GET", "/nacos/v3/admin/core/state/readiness").status_code == 200


async def test_as_an_asgi_app_it_responses_http_only_and_can_drop_a_connection() -> None:
    fake = FakeNacosServer(auth=False)
    transport = httpx.ASGITransport(fake)
    async with httpx.AsyncClient(transport=transport, base_url="http://fake") as client:
        response = await client.get("/nacos/v3/admin/core/state/readiness")
        assert json.loads(response.text)["code"] == 0
        fake.inject("drop")
        with pytest.raises(ConnectionResetError):
            await client.get("/nacos/v3/admin/core/state/readiness")

    async def nothing() -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match="not websocket"):
        await fake({"type": "websocket"}, nothing, None)  # type: ignore[arg-type]


def test_a_part_of_a_multipart_form_above_its_limit_is_refused(server: FakeNacosServer) -> None:
    with httpx.Client(base_url=f"http://{server.address}/nacos") as http:
        for size, status in ((1024 * 1024, 403), (1024 * 1024 + 1, 413)):
            files = {"content": (None, b"a" * size)}
            assert http.post("/v3/admin/cs/config", files=files).status_code == status
