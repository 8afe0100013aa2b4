"""Tokens: fetched once, kept in a header, renewed in time, and not fought over."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from nacos_client import (
    AccessKeyCredentials,
    AsyncNacosClient,
    AuthenticationError,
    NacosClient,
    NacosError,
    PermissionDeniedError,
    ServerUnavailableError,
)
from nacos_client._login import Login, Token
from nacos_client._steps import Operation, Request, Sleep, Wait
from nacos_client.testing import FakeNacosServer, ManualClock

LOGIN = ("POST", "/v3/auth/user/login")


def logins(server: FakeNacosServer) -> int:
    return sum(request == LOGIN for request in server.requests)


def connect(server: FakeNacosServer, **options: Any) -> NacosClient:
    return NacosClient(server.address, username="nacos", password="nacos", **options)


async def test_fifty_tasks_at_once_log_in_once(server: FakeNacosServer) -> None:
    async with AsyncNacosClient(server.address, username="nacos", password="nacos") as nacos:
        await asyncio.gather(*(nacos.naming.instances("orders") for _ in range(50)))
    assert logins(server) == 1


def test_threads_of_one_client_log_in_once(server: FakeNacosServer) -> None:
    with connect(server) as nacos, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: nacos.naming.instances("orders"), range(16)))
    assert logins(server) == 1


def test_a_token_the_server_no_longer_knows_leads_to_one_new_login(
    server: FakeNacosServer,
) -> None:
    with connect(server) as nacos:
        nacos.naming.instances("orders")
        server.forget_tokens()
        nacos.naming.instances("orders")
    assert logins(server) == 2


def test_a_server_that_refuses_every_token_is_not_stormed(server: FakeNacosServer) -> None:
    with connect(server) as nacos:
        nacos.naming.instances("orders")
        server.inject("token", "/instance/list", times=1000)
        for _ in range(20):
            with pytest.raises(AuthenticationError):
                nacos.naming.instances("orders")
    assert logins(server) < 8


def test_a_missing_permission_causes_no_login(server: FakeNacosServer) -> None:
    server.add_user("reader", "pw", [("public:*", "r")])
    with NacosClient(server.address, username="reader", password="pw") as nacos:
        for _ in range(5):
            with pytest.raises(PermissionDeniedError):
                nacos.admin.publish("app.yaml", "a: 1")
    assert logins(server) == 1


def test_right_credentials_refused_for_a_moment_after_boot_are_tried_again(
    server: FakeNacosServer,
) -> None:
    server.inject("forbidden", "/login", times=2)
    with connect(server) as nacos:
        assert list(nacos.naming.instances("orders")) == []
    assert logins(server) == 3


def test_wrong_credentials_are_not_tried_at_every_call(server: FakeNacosServer) -> None:
    with NacosClient(server.address, username="nacos", password="wrong", login_attempts=1) as nacos:
        for _ in range(10):
            with pytest.raises(AuthenticationError, match="check username and password"):
                nacos.naming.instances("orders")
    assert logins(server) == 1


def test_a_login_nobody_answers_says_so_to_all_who_wait(server: FakeNacosServer) -> None:
    server.stop()
    with connect(server) as nacos, ThreadPoolExecutor(4) as pool:
        for waiting in [pool.submit(nacos.naming.instances, "orders") for _ in range(4)]:
            assert isinstance(waiting.exception(), ServerUnavailableError)


def test_where_there_is_no_v3_login_the_v1_login_is_used() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        if request.url.path == "/nacos/v3/auth/user/login":
            body = {"status": 404, "error": "Not Found", "message": "No endpoint", "path": ""}
            return httpx.Response(404, json=body)
        if request.url.path == "/nacos/v1/auth/users/login":
            return httpx.Response(200, json={"accessToken": "t", "tokenTtl": 18000})
        assert request.headers["Authorization"] == "Bearer t"
        return httpx.Response(200, json={"code": 0, "data": []})

    with NacosClient(
        "127.0.0.1:1", username="u", password="p", transport=httpx.MockTransport(handle)
    ) as nacos:
        nacos.naming.instances("orders")
    assert seen[:2] == ["/nacos/v3/auth/user/login", "/nacos/v1/auth/users/login"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"code": 23000, "message": "auth type"}),
        httpx.Response(200, json=["token"]),
        httpx.Response(404, text="nothing here"),
        httpx.Response(501, json={"code": 501, "message": "no"}),
    ],
)
def test_a_login_that_yields_no_token_is_an_error(answer: httpx.Response) -> None:
    with (
        NacosClient(
            "127.0.0.1:1",
            username="u",
            password="p",
            login_attempts=1,
            transport=httpx.MockTransport(lambda _: answer),
        ) as nacos,
        pytest.raises(NacosError),
    ):
        nacos.naming.instances("orders")


def test_the_token_of_a_server_without_auth_is_replaced_when_auth_is_switched_on(
    server: FakeNacosServer,
) -> None:
    with FakeNacosServer(auth=False) as open_server, connect(open_server) as nacos:
        nacos.naming.instances("orders")
        open_server.inject("token", "/instance/list")
        nacos.naming.instances("orders")
        assert logins(open_server) == 2


def test_no_secret_is_in_a_log_a_url_a_repr_or_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    password, token = "s3cr3t-p4ss", "s3cr3t-t0k3n"
    urls: list[str] = []
    state = {"calls": 0}

    def handle(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        if request.url.path.endswith("/login"):
            return httpx.Response(200, json={"accessToken": token, "tokenTtl": 18000})
        state["calls"] += 1
        words = f"Code: 401, Message: token {'expired' if state['calls'] % 2 else 'invalid'}!."
        body = {"status": 403, "error": "Forbidden", "message": words, "path": ""}
        return httpx.Response(403, json=body)

    caplog.set_level(logging.DEBUG)
    nacos = NacosClient(
        "127.0.0.1:1", username="u", password=password, transport=httpx.MockTransport(handle)
    )
    told = [repr(nacos), str(nacos), repr(nacos._core.settings), str(nacos._core.settings)]
    told.append(repr(AccessKeyCredentials("key", password)))
    with pytest.raises(AuthenticationError) as caught:
        nacos.config.get("app.yaml")
    error: BaseException | None = caught.value
    while error is not None:
        told += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    nacos.close()
    told += [record.getMessage() for record in caplog.records] + urls
    assert len(urls) > 2
    for text in told:
        assert password not in text
        assert token not in text
    for secret in (Token(token, 0, 0, 0), Request("POST", "/x", form={"password": password})):
        assert password not in repr(secret)
        assert token not in repr(secret)


class TestSigning:
    """Credentials that sign each request."""

    @staticmethod
    def headers_of(call: Callable[[NacosClient], object]) -> httpx.Headers:
        seen: list[httpx.Headers] = []

        def handle(request: httpx.Request) -> httpx.Response:
            seen.append(request.headers)
            return httpx.Response(200, json={"code": 0, "data": []})

        with (
            NacosClient(
                "127.0.0.1:1",
                credentials=AccessKeyCredentials("key", "secret"),
                transport=httpx.MockTransport(handle),
                snapshot_dir="",
            ) as nacos,
            contextlib.suppress(NacosError),
        ):
            call(nacos)
        return seen[0]

    def test_config_calls_are_signed_over_namespace_and_group(self) -> None:
        headers = self.headers_of(lambda nacos: nacos.config.get("app.yaml", group="G"))
        expected = AccessKeyCredentials("key", "secret")._sign(f"public+G+{headers['Timestamp']}")
        assert headers["Spas-AccessKey"] == "key"
        assert headers["Spas-Signature"] == expected

    def test_naming_calls_are_signed_over_the_grouped_service(self) -> None:
        headers = self.headers_of(lambda nacos: nacos.naming.instances("orders", group="G"))
        assert headers["ak"] == "key"
        assert headers["data"].endswith("@@G@@orders")
        assert headers["signature"] == AccessKeyCredentials("key", "secret")._sign(headers["data"])


class Scripted:
    """Answers logins in virtual time, and counts them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.logins = 0
        self.failure: NacosError | None = None
        self.seconds = 100
        self.slept: list[float] = []

    def exchange(self, request: Request, deadline: float) -> Operation[Any]:
        assert request.anonymous
        assert deadline > self.clock()
        self.logins += 1
        yield Sleep(0)
        if self.failure is not None:
            raise self.failure
        return {"accessToken": f"token-{self.logins}", "tokenTtl": self.seconds}

    def run(self, operation: Operation[Token]) -> Token:
        try:
            step = next(operation)
            while True:
                assert isinstance(step, Sleep)
                self.slept.append(step.seconds)
                self.clock.advance(step.seconds)
                step = operation.send(None)
        except StopIteration as done:
            token: Token = done.value
            return token


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def scripted(clock: ManualClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
def login(scripted: Scripted, clock: ManualClock) -> Iterator[Login]:
    return Login("u", "p", scripted.exchange, clock=clock, rng=random.Random(7))  # type: ignore[return-value]


def refused() -> AuthenticationError:
    return AuthenticationError("login", status=403, detail="Access Denied")


def test_a_token_is_kept_for_nine_tenths_of_its_life_and_renewed_before_its_end(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    first = scripted.run(login.token(clock() + 10))
    clock.advance(89)
    assert scripted.run(login.token(clock() + 10)) is first
    clock.advance(5)
    second = scripted.run(login.token(clock() + 10))
    assert second.text == "token-2"
    assert second.ends_at > first.ends_at


def test_while_one_renews_the_others_go_on_with_the_old_token(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    first = scripted.run(login.token(clock() + 10))
    clock.advance(95)
    renewing = login.token(clock() + 10)
    next(renewing)
    assert scripted.run(login.token(clock() + 10)) is first
    renewing.close()
    assert scripted.run(login.token(clock() + 10)).text == "token-3"


def test_without_a_token_the_others_wait_for_whoever_logs_in(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    leading = login.token(clock() + 10)
    next(leading)
    waiting = login.token(clock() + 10)
    step = next(waiting)
    assert isinstance(step, Wait)
    assert step.timeout_seconds == 10
    scripted.run(leading)
    assert step.future.result(0) is None
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    assert done.value.value.text == "token-1"
    assert scripted.logins == 1


def test_whoever_waits_too_long_for_another_login_gets_a_timeout(
    login: Login, clock: ManualClock
) -> None:
    leading = login.token(clock() + 10)
    next(leading)
    waiting = login.token(clock() + 10)
    next(waiting)
    with pytest.raises(ServerUnavailableError, match="another login is under way"):
        waiting.throw(TimeoutError())
    leading.close()


def test_a_cancelled_login_is_taken_over_by_who_waits(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    leading = login.token(clock() + 10)
    next(leading)
    waiting = login.token(clock() + 10)
    step = next(waiting)
    assert isinstance(step, Wait)
    leading.close()
    assert step.future.done()
    assert isinstance(waiting.send(step.future.result(0)), Sleep)
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert scripted.logins == 2


def test_a_renewal_that_fails_keeps_the_old_token_until_it_ends(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    first = scripted.run(login.token(clock() + 10))
    scripted.failure = ServerUnavailableError("login", ("gone",))
    clock.advance(95)
    assert scripted.run(login.token(clock() + 10)) is first
    assert scripted.run(login.token(clock() + 10)) is first
    assert scripted.logins == 2
    clock.advance(6)
    with pytest.raises(ServerUnavailableError):
        scripted.run(login.token(clock() + 10))


def test_refusals_are_believed_after_four_tries_and_back_off_longer_each_time(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    scripted.failure = refused()
    waits = []
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            scripted.run(login.token(clock() + 60))
        before = scripted.logins
        began = clock()
        while scripted.logins == before:
            with pytest.raises(AuthenticationError):
                scripted.run(login.token(clock() + 1))
            if scripted.logins == before:
                clock.advance(0.5)
        waits.append(clock() - began)
    assert waits[0] < 4 < waits[2] <= max(waits) <= 13
    assert [round(pause) for pause in scripted.slept if pause][:3] in ([0, 1, 2], [1, 1, 2])


def test_a_token_refused_right_after_its_login_is_not_renewed_over_and_over(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    renewed = 0
    for _ in range(100):
        token = scripted.run(login.token(clock() + 10))
        renewed += login.rejected(token)
        clock.advance(0.1)
    assert 1 < renewed < 8


def test_a_refused_token_that_was_replaced_meanwhile_is_worth_another_try(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    old = scripted.run(login.token(clock() + 10))
    assert login.rejected(old)
    scripted.run(login.token(clock() + 10))
    assert login.rejected(old)
    assert scripted.logins == 2
