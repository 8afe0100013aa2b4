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

from microservice_client.call_options import FallbackResponse
from microservice_client.client import AsyncServiceClient
from microservice_client.errors import DeclarationError
from microservice_client.http.requests import RequestOptions
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor
from microservice_client.policy import ServicePolicy
from microservice_client.sync_client import ServiceClient
from microservice_core import InstanceFilter

from .method_plan import MethodPlan, build_plan
from .response_decoding import is_async_stream, is_sync_stream

__all__ = ("service_call", "service_client")

P = ParamSpec("P")
R = TypeVar("R")
ClassT = TypeVar("ClassT")

_MARK = "__service_call__"


@dataclass(frozen=True, slots=True)
class _DeclaredCall:
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
    fallback: FallbackResponse | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a method of a `service_client` class as a call.

    Parameters named in the path fill it; models, dataclasses and bytes are the body; all others are
    query parameters. `Annotated[str, Header()]`, `Path()`, `Query()` and `Body()` override that.
    The method's return type is what its caller gets: a model, a dataclass or anything else that
    pydantic reads from JSON, `bytes`, `str`, `None`, `httpx.Response`; or, from a plain `def`, an
    `AsyncIterator` or `Iterator` of `ServerSentEvent`, of `bytes`, or of anything that is sent as
    JSON lines. Error statuses are raised, unless the method returns `httpx.Response`.

    Args:
        method: of HTTP, in capitals.
        path: begins with `/`; `{order_id}` is replaced by the parameter of that name.
        headers: sent with each call.
        timeout: time limit in seconds for the whole call.
        policy: replaces the service's policy.
        interceptors, filters: for these calls.
        idempotent: whether a call may be sent more than once; by default its HTTP method decides.
        fallback: replaces the response of a failed call, and is decoded like it.
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
    if fallback is not None:
        options["fallback"] = fallback

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, _MARK, _DeclaredCall(method, path, options, function))
        return function

    return declare


@dataclass_transform()
def service_client(
    service: str,
    *,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    fallback: FallbackResponse | None = None,
) -> Callable[[type[ClassT]], type[ClassT]]:
    """Implement a class's `service_call` methods; its constructor then takes a client.

    Async methods need an `AsyncServiceClient`, plain ones a `ServiceClient`; a class has one kind.

    Args:
        service: the service's name.
        path: prefix of each method's path.
        headers: sent with each call.
        fallback: replaces the response of a failed call, and is decoded like it; a method may have
            its own.

    Raises:
        DeclarationError: a method breaks a rule; raised when the class is defined.
    """

    def decorate(cls: type[ClassT]) -> type[ClassT]:
        declared = _find_declared_calls(cls)
        if not declared:
            raise DeclarationError(cls.__qualname__, "it has no method with `service_call`")
        if "__init__" in vars(cls):
            raise DeclarationError(
                cls.__qualname__, "its constructor takes a client; remove __init__"
            )
        kinds = set()
        for name, call in declared.items():
            where = f"{cls.__qualname__}.{name}"
            plan = build_plan(where, service, call.function, call.method, path + call.path)
            if fallback is not None:
                plan.options["fallback"] = fallback
            merged = {**plan.options.get("headers", {}), **(headers or {})}
            plan.options = {
                **plan.options,
                **call.options,
                "headers": {**merged, **call.options.get("headers", {})},
            }
            _require_fallback(where, plan.options.get("fallback"))
            method, kind = _build_method(service, plan, call.function)
            kinds.add(kind)
            setattr(method, _MARK, call)  # so that a subclass may be decorated as well
            setattr(cls, name, method)
        if len(kinds) > 1:
            raise DeclarationError(
                cls.__qualname__, "its methods have to be all async or all plain"
            )
        setattr(cls, "__init__", _build_init(kinds.pop()))  # noqa: B010 - checkers see the transform
        return cls

    return decorate


def _require_fallback(where: str, fallback: object) -> None:
    if fallback is not None and not (isinstance(fallback, httpx.Response) or callable(fallback)):
        problem = f"its fallback is a {type(fallback).__name__}; give a response or a function"
        raise DeclarationError(where, problem)


def _find_declared_calls(cls: type) -> dict[str, _DeclaredCall]:
    calls = {}
    for name in dir(cls):
        call = getattr(getattr(cls, name, None), _MARK, None)
        if isinstance(call, _DeclaredCall):
            calls[name] = call
    return calls


def _build_init(kind: type) -> Callable[[object, object], None]:
    def init(self: object, client: object) -> None:
        if not isinstance(client, kind):
            raise DeclarationError(
                type(self).__qualname__,
                f"its methods need a {kind.__name__}, not {type(client).__name__}",
            )
        self.client = client  # type: ignore[attr-defined] # the decorated class has it

    return init


def _build_method(
    service: str, plan: MethodPlan, function: Callable[..., object]
) -> tuple[Callable[..., object], type]:
    if is_async_stream(plan.returns):
        return functools.wraps(function)(_build_async_stream(service, plan)), AsyncServiceClient
    if is_sync_stream(plan.returns):
        return functools.wraps(function)(_build_sync_stream(service, plan)), ServiceClient
    if inspect.iscoroutinefunction(function):
        return functools.wraps(function)(_build_async_call(service, plan)), AsyncServiceClient
    return functools.wraps(function)(_build_sync_call(service, plan)), ServiceClient


def _build_async_call(service: str, plan: MethodPlan) -> Callable[..., object]:
    decode = cast("Callable[[httpx.Response], object]", plan.decode)

    async def call(self: _AsyncApi, *args: object, **kwargs: object) -> object:
        values = plan.bind_arguments(args, kwargs)
        options = plan.build_options(values)
        response = await self.client.request(
            plan.method, service, plan.fill_path(values), **options
        )
        return decode(response)

    return call


def _build_sync_call(service: str, plan: MethodPlan) -> Callable[..., object]:
    decode = cast("Callable[[httpx.Response], object]", plan.decode)

    def call(self: _SyncApi, *args: object, **kwargs: object) -> object:
        values = plan.bind_arguments(args, kwargs)
        options = plan.build_options(values)
        response = self.client.request(plan.method, service, plan.fill_path(values), **options)
        return decode(response)

    return call


def _build_async_stream(service: str, plan: MethodPlan) -> Callable[..., AsyncIterator[object]]:
    def call(self: _AsyncApi, *args: object, **kwargs: object) -> AsyncIterator[object]:
        return _iterate_items(self.client, service, plan, plan.bind_arguments(args, kwargs))

    return call


def _build_sync_stream(service: str, plan: MethodPlan) -> Callable[..., Iterator[object]]:
    def call(self: _SyncApi, *args: object, **kwargs: object) -> Iterator[object]:
        values = plan.bind_arguments(args, kwargs)
        return self.client.iterate(_iterate_items(self.client.asynchronous, service, plan, values))

    return call


async def _iterate_items(
    client: AsyncServiceClient, service: str, plan: MethodPlan, values: dict[str, object]
) -> AsyncIterator[object]:
    read = cast("Callable[[httpx.Response], AsyncIterator[object]]", plan.decode)
    options = plan.build_options(values)
    async with client.stream(plan.method, service, plan.fill_path(values), **options) as response:
        async for item in read(response):
            yield item


class _AsyncApi:
    client: AsyncServiceClient


class _SyncApi:
    client: ServiceClient
