# mypy: disable-error-code="empty-body"
import enum
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from microservice_client import (
    AsyncServiceClient,
    Body,
    CallStatusError,
    DeclarationError,
    Header,
    Path,
    Query,
    ResponseFormatError,
    ServerSentEvent,
    ServiceClient,
    ServicePolicy,
    service_call,
    service_client,
)
from microservice_client.testing import FakeMesh
from microservice_core import InvalidValueError, MicroserviceError

A = "10.0.0.1:80"


class Order(BaseModel):
    order_id: int
    shown_as: str = Field("", alias="shownAs")


@dataclass
class Line:
    sku: str
    count: int


class Note(TypedDict):
    text: str


class Sorting(enum.Enum):
    NEWEST = "newest"


@service_client("orders", path="/v1", headers={"x-team": "shop"})
class OrdersApi:
    client: AsyncServiceClient

    @service_call("GET", "/orders/{order_id}")
    async def order(self, order_id: int, full: bool = False) -> Order: ...

    @service_call("GET", "/orders")
    async def orders(
        self,
        *,
        state: list[str] | None = None,
        since: date | None = None,
        sorting: Sorting | None = None,
        page: Annotated[int, Query("page-number")] = 1,
        shown: list[bool] | None = None,
    ) -> list[Order]: ...

    @service_call("POST", "/orders", headers={"x-a": "1"}, idempotent=True)
    async def create(
        self, order: Order, x_user_id: Annotated[str | None, Header()] = None
    ) -> Order: ...

    @service_call("PUT", "/orders/{of}/lines")
    async def set_line(self, order: Annotated[str, Path("of")], line: Line) -> None: ...

    @service_call("POST", "/notes")
    async def note(self, note: Note, at: Annotated[datetime, Header("x-at")]) -> Line: ...

    @service_call("PUT", "/raw/{name}")
    async def put_raw(self, name: str, content: bytes) -> bytes: ...

    @service_call("PUT", "/text")
    async def put_text(self, text: Annotated[str, Body]) -> str: ...

    @service_call("PUT", "/upload")
    async def upload(self, chunks: AsyncIterator[bytes]) -> httpx.Response: ...

    @service_call("PUT", "/labels")
    async def set_labels(self, labels: dict[str, str]) -> httpx.Response: ...

    @service_call("DELETE", "/orders/{order_id}", timeout=0.05, policy=ServicePolicy(attempts=1))
    async def delete(self, order_id: int) -> Order | None: ...

    @service_call("GET", "/changes")
    def changes(self) -> AsyncIterator[ServerSentEvent]: ...

    @service_call("GET", "/lines")
    def lines(self) -> AsyncIterator[Line]: ...

    @service_call("GET", "/bytes")
    def blob(self) -> AsyncIterator[bytes]: ...

    def plain_helper(self) -> str:
        return "untouched"


@service_client("orders")
class SyncOrdersApi:
    client: ServiceClient

    @service_call("GET", "/orders/{order_id}")
    def order(self, order_id: int) -> Order: ...

    @service_call("GET", "/lines")
    def lines(self) -> Iterator[Line]: ...


class Recorded:
    """Answers as told and keeps what was asked."""

    def __init__(self) -> None:
        self.mesh = FakeMesh()
        self.answer = httpx.Response(200, json={"order_id": 7})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            self.answer.status_code, headers=self.answer.headers, content=self.answer.content
        )

    @property
    def last(self) -> httpx.Request:
        return self.mesh.requests[-1]


@pytest.fixture
async def service() -> Recorded:
    recorded = Recorded()
    await recorded.mesh.start("orders", A, recorded)
    return recorded


@pytest.fixture
async def api(service: Recorded) -> AsyncIterator[OrdersApi]:
    async with AsyncServiceClient(service.mesh.registry, transport=service.mesh) as client:
        yield OrdersApi(client)
    assert service.mesh.open_bodies == 0


async def test_path_query_and_result_are_as_the_signature_says(
    api: OrdersApi, service: Recorded
) -> None:
    assert await api.order(7, full=True) == Order(order_id=7, shownAs="")
    assert str(service.last.url) == "http://10.0.0.1/v1/orders/7?full=true"
    assert service.last.headers["accept"] == "application/json"
    assert service.last.headers["x-team"] == "shop"
    await api.order(order_id=8)
    assert str(service.last.url) == "http://10.0.0.1/v1/orders/8?full=false"


async def test_query_parameters_take_lists_dates_enums_and_leave_out_none(
    api: OrdersApi, service: Recorded
) -> None:
    service.answer = httpx.Response(200, json=[])
    assert (
        await api.orders(
            state=["new", "paid"],
            since=date(2026, 1, 2),
            sorting=Sorting.NEWEST,
            shown=[True, False],
        )
        == []
    )
    assert service.last.url.query == (
        b"state=new&state=paid&since=2026-01-02&sorting=newest&page-number=1&shown=true&shown=false"
    )
    await api.orders()
    assert service.last.url.query == b"page-number=1"


async def test_a_model_is_the_body_by_its_aliases(api: OrdersApi, service: Recorded) -> None:
    await api.create(Order(order_id=1, shownAs="one"), x_user_id="ada")
    assert service.last.content == b'{"order_id":1,"shownAs":"one"}'
    assert service.last.headers["content-type"] == "application/json"
    assert (service.last.headers["x-user-id"], service.last.headers["x-a"]) == ("ada", "1")
    await api.create(Order(order_id=1, shownAs=""))
    assert "x-user-id" not in service.last.headers


async def test_dataclasses_typed_dicts_text_bytes_and_streams_are_bodies_too(
    api: OrdersApi, service: Recorded
) -> None:
    service.answer = httpx.Response(204)
    assert await api.set_line("o 1", Line("s", 2)) is None  # type: ignore[func-returns-value]
    assert service.last.content == b'{"sku":"s","count":2}'
    assert service.last.url.raw_path == b"/v1/orders/o%201/lines"
    service.answer = httpx.Response(200, json={"sku": "s", "count": 3})
    noted = await api.note({"text": "hi"}, datetime(2026, 1, 2, tzinfo=UTC))
    assert noted == Line("s", 3)
    assert service.last.headers["x-at"] == "2026-01-02T00:00:00Z"
    assert await api.put_raw("a", b"raw") == service.answer.content
    assert service.last.headers["content-type"] == "application/octet-stream"
    await api.put_text("grüß dich")
    assert service.last.content == "grüß dich".encode()
    assert service.last.headers["content-type"] == "text/plain; charset=utf-8"

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    response = await api.upload(chunks())
    assert service.last.content == b"ab"
    assert response.status_code == 200
    await api.set_labels({"a": "1"})
    assert service.last.content == b'{"a":"1"}'


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."}))
def test_a_path_parameter_stays_one_segment(text: str) -> None:
    from microservice_client.declarative.parameters import encode_path_segment

    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    url = httpx.URL(f"http://orders/v1/{encode_path_segment('name', text)}/end")
    assert url.raw_path.count(b"/") == 3
    assert url.path == f"/v1/{text}/end"


@pytest.mark.parametrize("value", ["", ".", ".."])
async def test_a_path_parameter_cannot_lead_elsewhere(
    api: OrdersApi, service: Recorded, value: str
) -> None:
    with pytest.raises(InvalidValueError, match="name must be something that makes a path segment"):
        await api.put_raw(value, b"")
    assert service.mesh.request_counts.total() == 0


async def test_error_statuses_are_raised_unless_the_response_is_asked_for(
    api: OrdersApi, service: Recorded
) -> None:
    service.answer = httpx.Response(404, json={})
    with pytest.raises(CallStatusError, match="responded 404"):
        await api.order(7)
    assert (await api.set_labels({})).status_code == 404


async def test_an_answer_of_another_form_names_its_place_and_shows_nothing_of_it(
    api: OrdersApi, service: Recorded
) -> None:
    service.answer = httpx.Response(200, json={"order_id": "secret", "shownAs": 3})
    with pytest.raises(ResponseFormatError) as caught:
        await api.order(7)
    assert str(caught.value).startswith(
        "orders: the response is no Order: order_id: int parsing (and 1"
    )
    assert "secret" not in str(caught.value)
    service.answer = httpx.Response(200, content=b"<html>")
    with pytest.raises(ResponseFormatError, match="the document: json invalid"):
        await api.order(7)


async def test_nothing_is_none_where_that_is_allowed(api: OrdersApi, service: Recorded) -> None:
    service.answer = httpx.Response(204)
    assert await api.delete(7) is None
    with pytest.raises(ResponseFormatError):
        await api.order(7)


async def test_streams_are_iterated(api: OrdersApi, service: Recorded) -> None:
    service.answer = httpx.Response(200, content=b"data: a\n\ndata: b\n\n")
    assert [event.data async for event in api.changes()] == ["a", "b"]
    assert service.last.headers["accept"] == "text/event-stream"
    service.answer = httpx.Response(200, content=b'{"sku":"a","count":1}\n{"sku":"b","count":2}')
    assert [line async for line in api.lines()] == [Line("a", 1), Line("b", 2)]
    assert service.last.headers["accept"] == "application/x-ndjson"
    assert b"".join([chunk async for chunk in api.blob()]) == service.answer.content
    service.answer = httpx.Response(200, content=b'{"sku":"a"}\n')
    with pytest.raises(ResponseFormatError):
        await anext(api.lines())
    service.answer = httpx.Response(500)
    with pytest.raises(CallStatusError):
        await anext(api.changes())


def test_a_class_of_plain_methods_runs_on_the_sync_client() -> None:
    recorded = Recorded()
    recorded.mesh.serve_at(A, recorded)
    addresses = {"orders": [f"http://{A}"]}
    with ServiceClient.from_addresses(addresses, transport=recorded.mesh) as client:
        api = SyncOrdersApi(client)
        assert api.order(7).order_id == 7
        recorded.answer = httpx.Response(200, content=b'{"sku":"a","count":1}\n' * 3)
        assert list(api.lines()) == [Line("a", 1)] * 3
        lines = api.lines()
        next(lines)
        lines.close()  # type: ignore[attr-defined] # a generator
        assert recorded.mesh.open_bodies == 0
        with pytest.raises(DeclarationError, match="need a AsyncServiceClient, not ServiceClient"):
            OrdersApi(client)  # type: ignore[arg-type]


async def test_helpers_and_subclasses_work(service: Recorded) -> None:
    @service_client("stock", path="/v2")
    class StockApi(OrdersApi):
        pass

    await service.mesh.start("stock", "10.0.0.2:80", service)
    async with AsyncServiceClient(service.mesh.registry, transport=service.mesh) as client:
        api = StockApi(client)
        assert api.plain_helper() == "untouched"
        await api.order(7)
        assert str(service.last.url) == "http://10.0.0.2/v2/orders/7?full=false"
        await OrdersApi(client).order(7)
        assert str(service.last.url) == "http://10.0.0.1/v1/orders/7?full=false"


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"order_id": 1}), ((1,), {"other": 1})]
)
async def test_wrong_arguments_are_a_type_error_before_anything_is_sent(
    api: OrdersApi, service: Recorded, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    with pytest.raises(TypeError, match=r"OrdersApi\.order takes \(order_id, full\), not \("):
        await api.order(*args, **kwargs)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await api.orders(["new"])  # type: ignore[call-arg]
    assert service.mesh.request_counts.total() == 0


def test_the_declared_method_keeps_its_name_and_documentation() -> None:
    assert OrdersApi.order.__name__ == "order"
    assert OrdersApi.order.__qualname__ == "OrdersApi.order"


class Unreadable:
    pass


def declare(method: str, path: str, function: Any) -> type:
    call: Any = service_call(method, path)(function)
    return service_client("orders")(type("Api", (), {"m": call}))


async def no_result(self): ...  # type: ignore[no-untyped-def]
async def no_type(self, a) -> None: ...  # type: ignore[no-untyped-def]
async def fine(self: object) -> None: ...
async def with_id(self: object, order_id: int) -> None: ...
async def star(self: object, *ids: int) -> None: ...
async def double_star(self: object, **more: int) -> None: ...
async def two_bodies(self: object, a: bytes, b: Mapping[str, str]) -> None: ...
async def one_body(self: object, a: Order) -> None: ...
async def async_stream_of_lines(self: object) -> AsyncIterator[Line]: ...
async def unreadable(self: object) -> Unreadable: ...
async def unreadable_query(self: object, a: Unreadable) -> None: ...
async def of_path(self: object, a: Annotated[int, Path("b")]) -> None: ...
async def unknown(self: object) -> "Nowhere": ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("method", "path", "function", "message"),
    [
        ("get", "/", fine, "'get' is no HTTP method; write it in capitals"),
        ("GET", "orders", fine, "has to begin with '/'"),
        ("GET", "/{", fine, "cannot be read"),
        ("GET", "/{a.b}", fine, "names no parameter"),
        ("GET", "/{}", fine, "names no parameter"),
        ("GET", "/{order_id}", fine, r"no parameter for \{order_id\}"),
        ("GET", "/", of_path, r"the path has no \{b\}"),
        ("GET", "/", no_result, "add a return type"),
        ("GET", "/", no_type, "the parameter 'a' has no type"),
        ("GET", "/", star, r"\*ids does not define"),
        ("GET", "/", double_star, r"\*more does not define"),
        ("POST", "/", two_bodies, "one body, not a, b"),
        ("GET", "/", one_body, "GET has no body for a"),
        ("GET", "/", async_stream_of_lines, "write `def`, not `async def`"),
        ("GET", "/", unreadable, "pydantic cannot read"),
        ("GET", "/", unreadable_query, "'a' is of a type pydantic cannot read"),
        ("GET", "/", unknown, "cannot be resolved"),
    ],
)
def test_what_is_wrong_is_told_when_the_class_is_defined(
    method: str, path: str, function: object, message: str
) -> None:
    with pytest.raises(DeclarationError, match=f"Api.m: .*{message}") as caught:
        declare(method, path, function)
    assert isinstance(caught.value, MicroserviceError)
    assert isinstance(caught.value, TypeError)


def test_a_class_needs_calls_of_one_kind_and_no_init() -> None:
    with pytest.raises(DeclarationError, match="no method with `service_call`"):
        service_client("orders")(type("Api", (), {}))
    call = service_call("GET", "/")(fine)
    with pytest.raises(DeclarationError, match="remove __init__"):
        service_client("orders")(type("Api", (), {"m": call, "__init__": lambda self: None}))

    def plain(self: object) -> None: ...

    both = {"m": call, "n": service_call("GET", "/")(plain)}
    with pytest.raises(DeclarationError, match="all async or all plain"):
        service_client("orders")(type("Api", (), both))
    assert declare("GET", "/{order_id}", with_id).__name__ == "Api"


async def test_a_declared_call_has_policy_filters_and_interceptors_of_its_own(
    service: Recorded,
) -> None:
    def sign(request: httpx.Request) -> None:
        request.headers["x-signed"] = "yes"

    options: Any = {"interceptors": [sign], "filters": [lambda instances, context: instances]}
    call = service_call("GET", "/{order_id}", **options)(with_id)
    api_class: type[Any] = service_client("orders")(type("Api", (), {"m": call}))
    async with AsyncServiceClient(service.mesh.registry, transport=service.mesh) as client:
        await api_class(client).m(7)
    assert service.last.headers["x-signed"] == "yes"


@service_client("orders", fallback=httpx.Response(200, json={"order_id": 0}))
class OrdersWithFallback:
    client: AsyncServiceClient

    @service_call("GET", "/orders/{order_id}")
    async def order(self, order_id: int) -> Order: ...

    @service_call(
        "GET", "/orders", fallback=lambda error: httpx.Response(200, text=type(error).__name__)
    )
    async def list_orders(self) -> str: ...


async def test_a_fallback_may_be_declared_for_a_class_and_for_a_method() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(404))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        api = OrdersWithFallback(client)
        assert (await api.order(7)).order_id == 0
        assert (await api.order(8)).order_id == 0
        assert await api.list_orders() == "CallStatusError"


def test_a_declared_fallback_is_a_response_or_a_function() -> None:
    class Api:
        @service_call("GET", "/", fallback=[])  # type: ignore[arg-type]
        async def call(self) -> None: ...

    with pytest.raises(DeclarationError, match=r"Api.call: its fallback is a list"):
        service_client("orders")(Api)
