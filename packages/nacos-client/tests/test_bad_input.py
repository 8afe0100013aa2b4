"""What Nacos would refuse, or store wrongly, is refused before the network and by name."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacos_client import (
    AsyncNacosClient,
    ClientClosedError,
    InvalidArgumentError,
    NacosClient,
    Settings,
)
from nacos_client.testing import FakeNacosServer


def unreachable(_: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing may be sent")


@pytest.fixture
def nacos() -> Iterator[NacosClient]:
    with NacosClient("127.0.0.1:1", transport=httpx.MockTransport(unreachable)) as client:
        yield client


Call = Callable[[NacosClient], object]
CONNECT: Any = NacosClient


ILLEGAL: list[tuple[str, Any]] = [
    ("data_id", lambda n: n.config.get("")),
    ("data_id", lambda n: n.config.get("a/b")),
    ("data_id", lambda n: n.config.get("a b")),
    ("data_id", lambda n: n.config.get("配置")),
    ("data_id", lambda n: n.config.get("a" * 257)),
    ("data_id", lambda n: n.config.get("a\n")),
    ("data_id", lambda n: n.config.get(None)),
    ("group", lambda n: n.config.get("a", group="")),
    ("group", lambda n: n.config.get("a", group="g" * 129)),
    ("group", lambda n: n.naming.instances("a", group="G@@H")),
    ("namespace", lambda n: n.config.get("a", namespace="my namespace")),
    ("namespace", lambda n: n.config.get("a", namespace="n" * 65)),
    ("service", lambda n: n.naming.instances("")),
    ("service", lambda n: n.naming.instances("DEFAULT_GROUP@@orders")),
    ("service", lambda n: n.naming.instances("@orders")),
    ("service", lambda n: n.naming.instances("my orders")),
    ("service", lambda n: n.naming.instances("订单")),
    ("service", lambda n: n.naming.instances("s" * 513)),
    ("clusters", lambda n: n.naming.instances("orders", clusters="east")),
    ("cluster", lambda n: n.naming.instances("orders", clusters=["a_b"])),
    ("cluster", lambda n: n.naming.register("orders", "1.1.1.1", 80, cluster="a,b")),
    ("ip", lambda n: n.naming.register("orders", "", 80)),
    ("ip", lambda n: n.naming.register("orders", "1.1.1.1 ", 80)),
    ("port", lambda n: n.naming.register("orders", "1.1.1.1", -1)),
    ("port", lambda n: n.naming.register("orders", "1.1.1.1", 65536)),
    ("port", lambda n: n.naming.register("orders", "1.1.1.1", "80")),
    ("port", lambda n: n.naming.register("orders", "1.1.1.1", True)),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight=-0.1)),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight=10001)),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight=float("nan"))),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight="2")),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight=None)),
    ("weight", lambda n: n.naming.register("orders", "1.1.1.1", 80, weight=True)),
    ("enabled", lambda n: n.naming.register("orders", "1.1.1.1", 80, enabled="false")),
    ("ephemeral", lambda n: n.naming.register("orders", "1.1.1.1", 80, ephemeral=1)),
    ("ip", lambda n: n.naming.register("orders", None, 80)),
    ("cluster", lambda n: n.naming.register("orders", "1.1.1.1", 80, cluster=None)),
    ("namespace", lambda n: n.naming.register("orders", "1.1.1.1", 80, namespace=0)),
    ("metadata", lambda n: n.naming.register("orders", "1.1.1.1", 80, metadata="a=b")),
    ("metadata", lambda n: n.naming.register("orders", "1.1.1.1", 80, metadata=["a"])),
    ("metadata", lambda n: n.naming.register("orders", "1.1.1.1", 80, metadata={"a": 1})),
    ("metadata", lambda n: n.naming.instances("orders", metadata="a=b")),
    ("metadata", lambda n: n.naming.instances("orders", metadata={"a": 1})),
    ("clusters", lambda n: n.naming.instances("orders", clusters=5)),
    ("clusters", lambda n: n.naming.pick("orders", clusters=5)),
    ("listener", lambda n: n.naming.subscribe("orders", "print")),
    ("listener", lambda n: n.config.watch("app.yaml", None)),
    ("on_deleted", lambda n: n.config.watch("app.yaml", print, on_deleted="print")),
    ("transport", lambda _: CONNECT("127.0.0.1:1", transport="http")),
    ("credentials", lambda _: CONNECT("127.0.0.1:1", credentials="token")),
    ("server_addr", lambda _: CONNECT(5)),
    ("timeout_seconds", lambda _: CONNECT("127.0.0.1:1", timeout_seconds="soon")),
    (
        "metadata",
        lambda n: n.naming.register("orders", "1.1.1.1", 80, metadata={"a": "b" * 1024}),
    ),
    (
        "metadata['preserved.heart.beat.interval']",
        lambda n: n.naming.register(
            "orders", "1.1.1.1", 80, metadata={"preserved.heart.beat.interval": "5s"}
        ),
    ),
    (
        "metadata['preserved.heart.beat.timeout']",
        lambda n: n.naming.register(
            "orders", "1.1.1.1", 80, metadata={"preserved.heart.beat.interval": "20000"}
        ),
    ),
    ("content", lambda n: n.admin.publish("a", "")),
    ("content", lambda n: n.admin.publish("a", " \n\t")),
    ("content", lambda n: n.admin.publish("a", b"bytes")),
    ("content", lambda n: n.admin.publish("a", "\ud800")),
    ("content", lambda n: n.admin.publish("a", "x" * (10 * 1024 * 1024 + 1))),
    ("type", lambda n: n.admin.publish("a", "x", type="markdown")),
    ("beta_ips", lambda n: n.admin.publish("a", "x", beta_ips="10.0.0.1")),
    ("ip", lambda n: n.admin.publish("a", "x", beta_ips=["10.0.0.1 10.0.0.2"])),
    ("version_id", lambda n: n.admin.rollback("a", "latest")),
    ("policy", lambda n: n.admin.import_configs(b"", policy="MERGE")),
    ("policy", lambda n: n.admin.clone([], target_namespace="x", policy="")),
    ("protect_threshold", lambda n: n.admin.create_service("a", protect_threshold=2)),
    ("protect_threshold", lambda n: n.admin.create_service("a", protect_threshold="0.5")),
    ("weight", lambda n: n.admin.update_instance("a", "1.1.1.1", 80, weight="2", enabled=True)),
    ("enabled", lambda n: n.admin.update_instance("a", "1.1.1.1", 80, weight=2, enabled="no")),
    ("beta_ips", lambda n: n.admin.publish("a", "x", beta_ips=5)),
    ("username", lambda n: n.admin.create_user(None, "x")),
    ("name", lambda n: n.admin.update_namespace("a", " ")),
    ("username", lambda n: n.admin.create_user("", "x")),
    ("role", lambda n: n.admin.add_role("", "x")),
    ("resource", lambda n: n.admin.add_permission("r", "", "r")),
    ("action", lambda n: n.admin.add_permission("r", "x", "x")),
]


@pytest.mark.parametrize(
    ("field", "call"),
    ILLEGAL,
    ids=[f"{field}-{number}" for number, (field, _) in enumerate(ILLEGAL)],
)
def test_an_illegal_value_is_refused_by_name_and_nothing_is_sent(
    nacos: NacosClient, field: str, call: Call
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        call(nacos)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} must be ")
    assert len(str(caught.value)) < 600
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "address",
    ["", " ,", "http://", "ftp://host", "host:port", "host:99999", "a b:80", "h?x=1", "[::1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="server_addr must be"):
        NacosClient(address)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        NacosClient("http://nacos:hunter2@127.0.0.1:8848")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "in_use"),
    [
        ("127.0.0.1", "127.0.0.1:8848"),
        ("host:80", "host:80"),
        ("https://host", "host:8848"),
        ("[::1]:8849", "[::1]:8849"),
        ("http://host:80/other/", "host:80"),
    ],
)
def test_addresses_are_understood_as_users_write_them(address: str, in_use: str) -> None:
    with NacosClient(address) as nacos:
        assert nacos.server_in_use == in_use
        assert "server_in_use" not in repr(nacos)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout_seconds", 0),
        ("attempt_seconds", -1),
        ("connect_seconds", float("nan")),
        ("config_poll_seconds", "soon"),
        ("instance_poll_seconds", 4000),
        ("empty_hold_seconds", -1),
        ("login_attempts", 5),
        ("namespace", "my namespace"),
        ("group", ""),
        ("tls", "perhaps"),
        ("unknown_option", 1),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_name(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(InvalidArgumentError) as caught:
        NacosClient("127.0.0.1:1", **options)
    assert caught.value.field == option


def test_a_password_of_the_wrong_type_is_not_repeated() -> None:
    options: dict[str, Any] = {"password": ["hunter2"]}
    with pytest.raises(InvalidArgumentError) as caught:
        NacosClient("127.0.0.1:1", **options)
    assert "hunter2" not in str(caught.value)


def test_the_environment_fills_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "NACOS_SERVER_ADDR": "10.0.0.1:8848, 10.0.0.2:8848",
        "NACOS_USERNAME": "u",
        "NACOS_PASSWORD": "p",
        "NACOS_NAMESPACE": "",
        "NACOS_CONFIG_POLL_SECONDS": "3",
        "NACOS_TLS_VERIFY": "false",
        "NACOS_TRANSPORT": "ignored",
    }
    settings = Settings.load(None, {"username": "other"}, environment)
    assert settings.server_addr == ("10.0.0.1:8848", "10.0.0.2:8848")
    assert (settings.username, settings.password.get_secret_value()) == ("other", "p")
    assert (settings.namespace, settings.config_poll_seconds) == ("public", 3)
    assert settings.tls_verify is False
    monkeypatch.setenv("NACOS_SERVER_ADDR", "10.0.0.3")
    with NacosClient() as nacos:
        assert nacos.server_in_use == "10.0.0.3:8848"


def test_without_any_server_it_says_how_to_name_one() -> None:
    with pytest.raises(InvalidArgumentError, match="NACOS_SERVER_ADDR"):
        NacosClient()


def test_a_transport_of_the_wrong_kind_is_refused() -> None:
    with (
        NacosClient("127.0.0.1:1", transport=httpx.AsyncHTTPTransport()) as nacos,
        pytest.raises(TypeError, match=r"must be an httpx\.BaseTransport"),
    ):
        nacos.config.get("app.yaml")


async def test_a_closed_client_says_so(server: FakeNacosServer) -> None:
    nacos = NacosClient(server.address)
    nacos.close()
    nacos.close()
    for call in (
        lambda: nacos.config.get("a"),
        lambda: nacos.naming.instances("a"),
        lambda: nacos.naming.register("a", "1.1.1.1", 80),
        lambda: nacos.naming.deregister("a", "1.1.1.1", 80),
        lambda: nacos.naming.beat("a", "1.1.1.1", 80),
        lambda: nacos.naming.update("a", "1.1.1.1", 80),
        lambda: nacos.naming.pick("a"),
        nacos.naming.services,
        lambda: nacos.naming.subscribe("a", print),
        nacos.admin.namespaces,
    ):
        with pytest.raises(ClientClosedError):
            call()
    anacos = AsyncNacosClient(server.address)
    await anacos.aclose()
    await anacos.aclose()
    with pytest.raises(ClientClosedError):
        await anacos.config.get("a")


@given(data_id=st.text(max_size=300))
def test_any_data_id_is_either_sent_unchanged_or_refused(data_id: str) -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.params["dataId"])
        return httpx.Response(200, json={"code": 0, "data": {"content": "a", "md5": "b"}})

    transport = httpx.MockTransport(handle)
    with NacosClient("127.0.0.1:1", transport=transport, snapshot_dir="") as nacos:
        try:
            nacos.config.get(data_id)
        except InvalidArgumentError:
            assert seen == []
        else:
            assert seen == [data_id]


@given(labels=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=10))
def test_metadata_arrives_as_it_was_given(labels: dict[str, str]) -> None:
    with FakeAsTransport() as (nacos, fake):
        labels = {k: v for k, v in labels.items() if k.isprintable() and v.isprintable()}
        nacos.naming.register("orders", "10.0.0.1", 80, metadata=labels, ephemeral=False)
        (found,) = fake()
        assert dict(found.metadata) == labels


class FakeAsTransport:
    """The fake server without a socket, for a sync client."""

    def __enter__(self) -> tuple[NacosClient, Callable[[], Any]]:
        app = httpx.ASGITransport(FakeNacosServer(auth=False))

        def handle(request: httpx.Request) -> httpx.Response:
            async def call() -> httpx.Response:
                response = await app.handle_async_request(request)
                await response.aread()
                return response

            response = asyncio.run(call())
            return httpx.Response(response.status_code, content=response.content)

        self.client = NacosClient("127.0.0.1:1", transport=httpx.MockTransport(handle))
        return self.client, lambda: self.client.naming.instances("orders")

    def __exit__(self, *_: object) -> None:
        self.client.close()
