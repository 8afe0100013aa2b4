"""Every shape of response of a server, its filters or a proxy becomes one named error."""

import json
from collections.abc import Callable

import httpx
import pytest

from nacos_client import (
    AnswerError,
    AuthenticationError,
    ConfigNotFound,
    ConflictError,
    InstanceNotFound,
    NacosClient,
    NacosError,
    PermissionDeniedError,
    RequestRejectedError,
    ServerError,
    UnexpectedAnswerError,
)

HTML = b"<!DOCTYPE html>\n<html><body>Welcome to the corporate proxy</body></html>"


def spring(status: int, message: str) -> bytes:
    return json.dumps({"status": status, "error": "X", "message": message, "path": "/p"}).encode()


def result(code: int, data: object = None) -> bytes:
    return json.dumps({"code": code, "message": "words", "data": data}).encode()


def responding(status: int, body: bytes) -> NacosClient:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    return NacosClient("127.0.0.1:8848", transport=transport, snapshot_dir="")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", ServerError),
        (200, b"  \n", ServerError),
        (200, b'{"code": 0, "da', UnexpectedAnswerError),
        (200, HTML, UnexpectedAnswerError),
        (502, HTML, UnexpectedAnswerError),
        (200, b"[]", UnexpectedAnswerError),
        pytest.param(200, b"[" * 100_000, UnexpectedAnswerError, id="nested without end"),
        (200, b'{"code": "0"}', UnexpectedAnswerError),
        (200, result(0, {"content": "a"}), UnexpectedAnswerError),
        (200, result(0, None), UnexpectedAnswerError),
        (200, result(20004), ConfigNotFound),
        (200, result(30000), ServerError),
        (503, b"", ServerError),
        (503, b"overloaded", ServerError),
        (429, b"slow down", ServerError),
        (500, result(20005), ConflictError),
        (500, spring(500, "No static resource nacos/v3/client"), UnexpectedAnswerError),
        (404, spring(404, "No endpoint GET /x."), UnexpectedAnswerError),
        (410, result(40000), UnexpectedAnswerError),
        (302, b"", UnexpectedAnswerError),
        (304, spring(304, "hm"), UnexpectedAnswerError),
        (401, b"who are you", AuthenticationError),
        (403, spring(403, "Code: 401, Message: token expired!."), AuthenticationError),
        (403, spring(403, "token expired!"), AuthenticationError),
        (403, b"token invalid!", AuthenticationError),
        (403, spring(403, "Code: 403, Message: authorization failed!."), PermissionDeniedError),
        (403, b"go away", PermissionDeniedError),
        (403, result(10001), PermissionDeniedError),
        (400, b"Param 'dataId' is illegal, illegal characters", RequestRejectedError),
        (400, result(10000, "Required parameter 'groupName'"), RequestRejectedError),
        (400, result(30000, "errCode: 400"), RequestRejectedError),
        (200, result(99999), UnexpectedAnswerError),
    ],
)
def test_each_response_becomes_its_error(
    status: int, body: bytes, error: type[AnswerError]
) -> None:
    with responding(status, body) as nacos, pytest.raises(AnswerError) as caught:
        nacos.config.get("app.yaml")
    assert type(caught.value) is error
    assert caught.value.status == status
    assert caught.value.operation == "GET /v3/client/cs/config"
    assert caught.value.server == "http://127.0.0.1:8848/nacos" or not caught.value.server


def test_a_beat_with_status_200_and_code_21003_is_instance_not_found() -> None:
    with responding(200, result(21003)) as nacos, pytest.raises(InstanceNotFound):
        nacos.naming.beat("orders", "10.0.0.1", 80)


def test_an_instance_list_that_is_no_list_is_unexpected() -> None:
    with (
        responding(200, result(0, {"instances": []})) as nacos,
        pytest.raises(UnexpectedAnswerError, match="list of instances"),
    ):
        nacos.naming.instances("orders")


def test_a_page_of_another_shape_names_the_field_that_is_wrong() -> None:
    page = {"pageItems": [{"name": "orders"}], "pageNumber": 1, "pagesAvailable": 1}
    with (
        responding(200, result(0, page)) as nacos,
        pytest.raises(UnexpectedAnswerError, match=r"ServiceSummary.groupName"),
    ):
        list(nacos.admin.services())
    with responding(200, result(0, [])) as nacos, pytest.raises(UnexpectedAnswerError):
        list(nacos.admin.services())


def test_an_export_that_is_no_zip_is_an_error() -> None:
    with responding(200, result(30000, "ids is null")) as nacos, pytest.raises(ServerError):
        nacos.admin.export_configs([])
    with responding(200, result(0, "x")) as nacos, pytest.raises(ServerError, match="no zip file"):
        nacos.admin.export_configs([])


def test_the_body_of_a_success_is_not_repeated_in_an_error() -> None:
    with responding(200, b"password: hunter2") as nacos, pytest.raises(NacosError) as caught:
        nacos.config.get("app.yaml")
    assert "hunter2" not in str(caught.value)


def test_long_words_of_a_server_are_cut() -> None:
    with responding(400, b"x" * 10_000) as nacos, pytest.raises(RequestRejectedError) as caught:
        nacos.config.get("app.yaml")
    assert len(str(caught.value)) < 600


def test_every_message_ends_with_what_to_do() -> None:
    with responding(404, b"nope") as nacos, pytest.raises(UnexpectedAnswerError) as caught:
        nacos.config.get("app.yaml")
    assert str(caught.value).endswith("whether a proxy stands in between")


def test_a_response_without_end_is_cut_off() -> None:
    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(b" " * 1_000_000 for _ in range(100)))

    transport = httpx.MockTransport(endless)
    with (
        NacosClient("127.0.0.1:1", transport=transport, snapshot_dir="") as nacos,
        pytest.raises(NacosError, match="more than 67108864 bytes"),
    ):
        nacos.config.get("app.yaml")


def test_a_broken_compressed_response_is_an_error() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbage())

    class Garbage(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b"certainly not gzip"

    transport = httpx.MockTransport(broken)
    with (
        NacosClient("127.0.0.1:1", transport=transport, snapshot_dir="") as nacos,
        pytest.raises(NacosError, match="undecodable body"),
    ):
        nacos.config.get("app.yaml")


@pytest.mark.parametrize(
    "entry", [None, [], {}, {"ip": "10.0.0.1"}, {"ip": "i", "port": 1, "weight": "x"}]
)
def test_an_entry_of_the_list_that_is_no_instance_is_unexpected(entry: object) -> None:
    with (
        responding(200, result(0, [entry])) as nacos,
        pytest.raises(UnexpectedAnswerError, match="an entry of the list is not an instance"),
    ):
        nacos.naming.instances("orders")


def test_a_time_beyond_all_calendars_is_none() -> None:
    data = {"content": "a", "md5": "b", "lastModified": 10**30}
    with responding(200, result(0, data)) as nacos:
        assert nacos.config.get("app.yaml").last_modified is None


@pytest.mark.parametrize(
    "call",
    [
        lambda nacos: nacos.admin.nodes(),
        lambda nacos: nacos.admin.state(),
        lambda nacos: nacos.admin.namespaces(),
        lambda nacos: nacos.admin.namespace("public"),
        lambda nacos: nacos.admin.instances("orders", clusters=["DEFAULT"]),
        lambda nacos: nacos.admin.import_configs(b""),
    ],
    ids=["nodes", "state", "namespaces", "namespace", "instances", "import"],
)
def test_data_of_another_shape_is_unexpected(call: Callable[[NacosClient], object]) -> None:
    with (
        responding(200, result(0, "something else")) as nacos,
        pytest.raises(UnexpectedAnswerError),
    ):
        call(nacos)
