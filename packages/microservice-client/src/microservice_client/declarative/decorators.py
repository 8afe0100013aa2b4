"""Declarative clients: a class whose methods are calls, checked when it is defined.

```python
@service_client("orders")
class OrdersApi:
    client: AsyncServiceClient

    @service_call("GET", "/orders/{order_id}")
    async def order(self, order_id: int) -> Order: ...

api = OrdersApi(client)
await api.order(7)
```
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast, dataclass_transform

import httpx

from microservice_client.client import AsyncServiceClient
from microservice_client.errors import DeclarationError
from microservice_client.http.requests import RequestOptions
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor
from microservice_client.policy import ServicePolicy
from microservice_client.sync_client import ServiceClient
from microservice_core import InstanceFilter

from .method_plan import Plan, plan_of
from .response_decoding import async_stream, sync_stream

__all__ = ("service_call", "service_client")

P = ParamSpec("P")
R = TypeVar("R")
ClassT = TypeVar("ClassT")

_MARK = "__service_call__"


@dataclass(frozen=True, slots=True)
class _Declared:
    method: str
    path: str
    options: RequestOptions
    function: Callable[..., object]


def service_call(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    policy: ServicePolicy | None = None,
    interceptors: Sequence[Interceptor | RequestInterceptor] = (),
    filters: Sequence[InstanceFilter] = (),
    idempotent: bool | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a method of a `service_client` class as a call.

    Parameters named in the path fill it; models, dataclasses and bytes are the body; all others are
    query parameters. `Annotated[str, Header()]` and its siblings `Path`, `Query`, `Body` say it
    otherwise. The method's return type is what its caller gets: a model, a dataclass or anything
    else pydantic reads from JSON, `bytes`, `str`, `None`, `httpx.Response`; or, from a plain
    `def`, an `AsyncIterator` or `Iterator` of `ServerSentEvent`, `bytes`, or of anything that comes
    as JSON lines. Error statuses are raised, but not where the response itself is asked for.

    Args:
        method: of HTTP, in capitals.
        path: begins with `/`; `{order_id}` stands for the parameter of that name.
        headers: what each call carries.
        timeout: seconds for the whole call.
        policy: in the place of the service's.
        interceptors, filters: for these calls.
        idempotent: whether a call may be sent twice, where the method does not tell.
    """
    options: RequestOptions = {"headers": dict(headers or {})}
    if timeout is not None:
        options["timeout"] = timeout
    if policy is not None:
        options["policy"] = policy
    if interceptors:
        options["interceptors"] = interceptors
    if filters:
        options["filters"] = filters
    if idempotent is not None:
        options["idempotent"] = idempotent

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, _MARK, _Declared(method, path, options, function))
        return function

    return declare


@dataclass_transform()
def service_client(
    service: str, *, path: str = "", headers: Mapping[str, str] | None = None
) -> Callable[[type[ClassT]], type[ClassT]]:
    """Make a class's `service_call` methods call that service; the class is built from a client.

    Async methods need an `AsyncServiceClient`, plain ones a `ServiceClient`; a class has one kind.

    Args:
        service: the service's name.
        path: stands before the path of each method.
        headers: what each call carries.

    Raises:
        DeclarationError: a method breaks a rule; told when the class is defined.
    """

    def decorate(cls: type[ClassT]) -> type[ClassT]:
        declared = _declared_methods(cls)
        if not declared:
            raise DeclarationError(cls.__qualname__, "it has no method with `service_call`")
        if "__init__" in vars(cls):
            raise DeclarationError(
                cls.__qualname__, "it is built from a client; leave out __init__"
            )
        kinds = set()
        for name, one in declared.items():
            where = f"{cls.__qualname__}.{name}"
            plan = plan_of(where, service, one.function, one.method, path + one.path)
            merged = {**plan.options.get("headers", {}), **(headers or {})}
            plan.options = {
                **plan.options,
                **one.options,
                "headers": {**merged, **one.options.get("headers", {})},
            }
            method, kind = _method(service, plan, one.function)
            kinds.add(kind)
            setattr(method, _MARK, one)
            setattr(cls, name, method)
        if len(kinds) > 1:
            raise DeclarationError(cls.__qualname__, "its methods are all async or all plain")
        setattr(cls, "__init__", _init_for(kinds.pop()))  # noqa: B010 - checkers see the transform
        return cls

    return decorate


def _declared_methods(cls: type) -> dict[str, _Declared]:
    found = {}
    for name in dir(cls):
        one = getattr(getattr(cls, name, None), _MARK, None)
        if isinstance(one, _Declared):
            found[name] = one
    return found


def _init_for(kind: type) -> Callable[[object, object], None]:
    def init(self: object, client: object) -> None:
        if not isinstance(client, kind):
            raise DeclarationError(
                type(self).__qualname__,
                f"its methods need a {kind.__name__}, not {type(client).__name__}",
            )
        self.client = client  # type: ignore[attr-defined] # of any class

    return init


def _method(
    service: str, plan: Plan, function: Callable[..., object]
) -> tuple[Callable[..., object], type]:
    result = plan.returns
    if async_stream(result):
        return functools.wraps(function)(_async_stream(service, plan)), AsyncServiceClient
    if sync_stream(result):
        return functools.wraps(function)(_sync_stream(service, plan)), ServiceClient
    if inspect.iscoroutinefunction(function):
        return functools.wraps(function)(_async_call(service, plan)), AsyncServiceClient
    return functools.wraps(function)(_sync_call(service, plan)), ServiceClient


def _async_call(service: str, plan: Plan) -> Callable[..., object]:
    decode = cast("Callable[[httpx.Response], object]", plan.result)

    async def call(self: _OfAsync, *args: object, **kwargs: object) -> object:
        values = plan.bound(args, kwargs)
        options = plan.request_options(values)
        response = await self.client.request(plan.method, service, plan.target(values), **options)
        return decode(response)

    return call


def _sync_call(service: str, plan: Plan) -> Callable[..., object]:
    decode = cast("Callable[[httpx.Response], object]", plan.result)

    def call(self: _OfSync, *args: object, **kwargs: object) -> object:
        values = plan.bound(args, kwargs)
        options = plan.request_options(values)
        response = self.client.request(plan.method, service, plan.target(values), **options)
        return decode(response)

    return call


def _async_stream(service: str, plan: Plan) -> Callable[..., AsyncIterator[object]]:
    def call(self: _OfAsync, *args: object, **kwargs: object) -> AsyncIterator[object]:
        return _items(self.client, service, plan, plan.bound(args, kwargs))

    return call


def _sync_stream(service: str, plan: Plan) -> Callable[..., Iterator[object]]:
    def call(self: _OfSync, *args: object, **kwargs: object) -> Iterator[object]:
        values = plan.bound(args, kwargs)
        return self.client.iterate(_items(self.client.asynchronous, service, plan, values))

    return call


async def _items(
    client: AsyncServiceClient, service: str, plan: Plan, values: dict[str, object]
) -> AsyncIterator[object]:
    read = cast("Callable[[httpx.Response], AsyncIterator[object]]", plan.result)
    options = plan.request_options(values)
    async with client.stream(plan.method, service, plan.target(values), **options) as response:
        async for item in read(response):
            yield item


class _OfAsync:
    client: AsyncServiceClient


class _OfSync:
    client: ServiceClient
