"""Tokens: fetched once, kept in a header, renewed in time, and not fought over."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from nacos_client import (
    AccessKeyCredentials,
    AsyncNacosClient,
    AuthenticationError,
    ClientClosedError,
    ConfigNotFound,
    InvalidArgumentError,
    NacosClient,
    NacosError,
    PermissionDeniedError,
    ServerUnavailableError,
    Settings,
    UnexpectedAnswerError,
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


def test_a_login_without_a_response_fails_all_waiting_calls(server: FakeNacosServer) -> None:
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


@pytest.mark.parametrize("username", ["nacos", ""])
def test_the_port_of_the_console_is_named_as_the_cause_at_once(username: str) -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        path = request.url.path.removeprefix("/")
        return httpx.Response(500, text=f"caused: No static resource {path}.;")

    with (
        NacosClient(
            "127.0.0.1:1",
            username=username,
            password="p",
            snapshot_dir="",
            transport=httpx.MockTransport(handle),
        ) as nacos,
        pytest.raises(UnexpectedAnswerError, match="check host, port and context path"),
    ):
        nacos.config.get("app.yaml")
    assert len(seen) == 1


def test_a_server_without_authentication_is_used_without_a_token_and_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        FakeNacosServer(username="other", auth=False) as open_server,
        connect(open_server, login_attempts=1) as nacos,
    ):
        for _ in range(5):
            assert list(nacos.naming.instances("orders")) == []
        assert logins(open_server) == 1
        assert caplog.text.count("its authentication is off") == 1
        with pytest.raises(ConfigNotFound):
            nacos.config.get("missing.yaml")


def test_a_document_that_is_missing_shows_as_well_that_authentication_is_off() -> None:
    with (
        FakeNacosServer(username="other", auth=False) as open_server,
        connect(open_server, login_attempts=1) as nacos,
    ):
        for _ in range(2):
            with pytest.raises(ConfigNotFound):
                nacos.config.get("missing.yaml")
        assert logins(open_server) == 1


def test_authentication_that_is_switched_on_later_leads_to_a_login() -> None:
    with (
        FakeNacosServer(username="other", auth=False, publish_delay_seconds=0) as server,
        connect(server, login_attempts=1) as nacos,
    ):
        nacos.naming.instances("orders")
        server.add_user("nacos", "nacos", [("*", "r")])
        server.inject("token", "/instance/list")
        assert list(nacos.naming.instances("orders")) == []
        assert logins(server) == 2


async def test_all_calls_that_meet_the_switch_to_authentication_succeed() -> None:
    with FakeNacosServer(username="other", auth=False) as server:
        async with AsyncNacosClient(
            server.address, username="nacos", password="nacos", login_attempts=1
        ) as nacos:
            await nacos.naming.instances("orders")
            server.add_user("nacos", "nacos", [("*", "r")])
            server.inject("token", "/instance/list", times=5)
            calls = [nacos.naming.instances("orders") for _ in range(5)]
            assert [len(each) for each in await asyncio.gather(*calls)] == [0] * 5
        assert logins(server) <= 4  # the refused one, and hardly more than one after the switch


def test_a_server_that_fails_is_not_taken_for_one_without_authentication(
    server: FakeNacosServer,
) -> None:
    with NacosClient(server.address, username="nacos", password="wrong", login_attempts=1) as nacos:
        server.inject("error", "/instance/list", times=3)
        with pytest.raises(AuthenticationError):
            nacos.naming.instances("orders")


def test_a_password_can_be_handed_over_while_the_client_runs(server: FakeNacosServer) -> None:
    with connect(server, instance_poll_seconds=0.05) as nacos:
        nacos.naming.register("orders", "10.0.0.1", 80)
        server.add_user("deploy", "s3cret", [("public:*", "r"), ("public:*", "w")])
        with pytest.raises(AuthenticationError):
            nacos.login("deploy", "wrong")
        assert len(nacos.naming.instances("orders")) == 1  # as the former user
        nacos.login("deploy", "s3cret")
        before = logins(server)
        assert len(nacos.naming.instances("orders")) == 1
        assert logins(server) == before
        with pytest.raises(PermissionDeniedError):
            list(nacos.admin.users())


async def test_a_client_without_credentials_can_log_in_later(server: FakeNacosServer) -> None:
    async with AsyncNacosClient(server.address) as nacos:
        with pytest.raises(AuthenticationError):
            await nacos.naming.instances("orders")
        await nacos.login("nacos", "nacos")
        assert list(await nacos.naming.instances("orders")) == []
    with pytest.raises(ClientClosedError):
        await nacos.login("nacos", "nacos")


@pytest.mark.parametrize(
    ("username", "password", "field"),
    [("", "p", "username"), (None, "p", "username"), ("u", "", "password"), ("u", 5, "password")],
)
def test_credentials_are_text(
    server: FakeNacosServer, username: Any, password: Any, field: str
) -> None:
    with connect(server) as nacos, pytest.raises(InvalidArgumentError, match=field) as error:
        nacos.login(username, password)
    assert "5" not in str(error.value)


def test_a_login_at_run_time_finds_the_servers_of_an_address_server() -> None:
    paths: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if "serverlist" in request.url.path:
            return httpx.Response(200, text="10.0.0.1:8848\n")
        return httpx.Response(200, json={"accessToken": "t", "tokenTtl": 18000})

    with NacosClient(endpoint="127.0.0.1:1", transport=httpx.MockTransport(handle)) as nacos:
        nacos.login("u", "p")
    assert ["serverlist" in path for path in paths] == [True, False]


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, json={"code": 23000, "message": "auth type"}),
        httpx.Response(200, json=["token"]),
        httpx.Response(404, text="nothing here"),
        httpx.Response(501, json={"code": 501, "message": "no"}),
    ],
)
def test_a_login_that_yields_no_token_is_an_error(response: httpx.Response) -> None:
    with (
        NacosClient(
            "127.0.0.1:1",
            username="u",
            password="p",
            login_attempts=1,
            transport=httpx.MockTransport(lambda _: response),
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
    settings = Settings.load("127.0.0.1:1", {"username": "u", "password": password})
    texts = [repr(nacos), str(nacos), repr(settings), str(settings)]
    texts.append(repr(AccessKeyCredentials("key", password)))
    with pytest.raises(AuthenticationError) as caught:
        nacos.config.get("app.yaml")
    error: BaseException | None = caught.value
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    nacos.close()
    texts += [record.getMessage() for record in caplog.records] + urls
    assert len(urls) > 2
    for text in texts:
        assert password not in text
        assert token not in text
    for secret in (Token(token, 0, 0, 0), Request("POST", "/x", form={"password": password})):
        assert password not in repr(secret)
        assert token not in repr(secret)


def sign(text: str) -> str:
    digest = hmac.new(b"secret", text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


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
        expected = sign(f"public+G+{headers['Timestamp']}")
        assert headers["Spas-AccessKey"] == "key"
        assert headers["Spas-Signature"] == expected

    def test_naming_calls_are_signed_over_the_grouped_service(self) -> None:
        headers = self.headers_of(lambda nacos: nacos.naming.instances("orders", group="G"))
        assert headers["ak"] == "key"
        assert headers["data"].endswith("@@G@@orders")
        assert headers["signature"] == sign(headers["data"])


class Scripted:
    """Handles logins in virtual time, and counts them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.logins = 0
        self.failure: NacosError | None = None
        self.seconds: Any = 100
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
    first = scripted.run(login.get_token(clock() + 10))
    clock.advance(89)
    assert scripted.run(login.get_token(clock() + 10)) is first
    clock.advance(5)
    second = scripted.run(login.get_token(clock() + 10))
    assert second.text == "token-2"
    assert second.ends_at > first.ends_at


def test_while_one_call_renews_the_token_the_others_use_the_old_one(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    first = scripted.run(login.get_token(clock() + 10))
    clock.advance(95)
    renewing = login.get_token(clock() + 10)
    next(renewing)
    assert scripted.run(login.get_token(clock() + 10)) is first
    renewing.close()
    assert scripted.run(login.get_token(clock() + 10)).text == "token-3"


def test_without_a_token_the_others_wait_for_the_call_that_logs_in(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    leading = login.get_token(clock() + 10)
    next(leading)
    waiting = login.get_token(clock() + 10)
    step = next(waiting)
    assert isinstance(step, Wait)
    assert step.timeout_seconds == 10
    scripted.run(leading)
    assert step.future.result(0) is None
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    assert done.value.value.text == "token-1"
    assert scripted.logins == 1


def test_a_call_that_waits_too_long_for_another_login_times_out(
    login: Login, clock: ManualClock
) -> None:
    leading = login.get_token(clock() + 10)
    next(leading)
    waiting = login.get_token(clock() + 10)
    next(waiting)
    with pytest.raises(ServerUnavailableError, match="another login is under way"):
        waiting.throw(TimeoutError())
    leading.close()


def test_a_cancelled_login_is_taken_over_by_a_waiting_call(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    leading = login.get_token(clock() + 10)
    next(leading)
    waiting = login.get_token(clock() + 10)
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
    first = scripted.run(login.get_token(clock() + 10))
    scripted.failure = ServerUnavailableError("login", ("gone",))
    clock.advance(95)
    assert scripted.run(login.get_token(clock() + 10)) is first
    assert scripted.run(login.get_token(clock() + 10)) is first
    assert scripted.logins == 2
    clock.advance(6)
    with pytest.raises(ServerUnavailableError):
        scripted.run(login.get_token(clock() + 10))


def test_a_refusal_is_final_after_four_attempts_and_the_next_login_waits_longer_each_time(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    scripted.failure = refused()
    waits = []
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            scripted.run(login.get_token(clock() + 60))
        before = scripted.logins
        began = clock()
        while scripted.logins == before:
            with pytest.raises(AuthenticationError):
                scripted.run(login.get_token(clock() + 1))
            if scripted.logins == before:
                clock.advance(0.5)
        waits.append(clock() - began)
    assert waits[0] < 4 < waits[2] <= max(waits) <= 13
    first, second, third, *_ = (pause for pause in scripted.slept if pause)
    assert 0.3 < first < 0.8 < second + first
    assert 1.3 < third < 3


def test_a_token_refused_right_after_its_login_is_not_renewed_over_and_over(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    renewed = 0
    for _ in range(100):
        token = scripted.run(login.get_token(clock() + 10))
        renewed += login.reject_token(token)
        clock.advance(0.1)
    assert 1 < renewed < 8


def test_a_refused_token_that_was_replaced_meanwhile_is_worth_another_try(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    old = scripted.run(login.get_token(clock() + 10))
    assert login.reject_token(old)
    scripted.run(login.get_token(clock() + 10))
    assert login.reject_token(old)
    assert scripted.logins == 2


def test_a_token_that_ends_after_a_failed_renewal_leads_to_a_login_at_once(
    login: Login, scripted: Scripted, clock: ManualClock
) -> None:
    scripted.run(login.get_token(clock() + 10))
    clock.advance(99.8)
    scripted.failure = ServerUnavailableError("login", ("gone",))
    scripted.run(login.get_token(clock() + 10))
    scripted.failure = None
    clock.advance(0.3)
    assert scripted.run(login.get_token(clock() + 10)).text == "token-3"


@pytest.mark.parametrize("lifetime", [None, "soon", -1, 0, float("nan"), [], 10**400])
def test_a_lifetime_that_is_none_is_five_hours(
    login: Login, scripted: Scripted, clock: ManualClock, lifetime: Any
) -> None:
    scripted.seconds = lifetime
    assert scripted.run(login.get_token(clock() + 10)).ends_at == clock() + 18000


def test_after_a_fork_neither_the_lock_nor_a_login_of_the_parent_is_waited_for(
    scripted: Scripted,
) -> None:
    clock = BlockingClock()
    login = Login("u", "p", scripted.exchange, clock=clock, rng=random.Random(7))
    under_way = login.get_token(scripted.clock() + 10)
    next(under_way)
    with clock.blocked(lambda: scripted.run(login.get_token(scripted.clock() + 10))):
        login.after_fork()
        assert scripted.run(login.get_token(scripted.clock() + 10)).text == "token-2"
    under_way.close()


class BlockingClock:
    """A clock that can hold a thread in the middle of what it does."""

    def __init__(self) -> None:
        self.holds = False
        self.held = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> float:
        if self.holds:
            self.holds = False
            self.held.set()
            assert self.released.wait(30)
        return 1000.0

    @contextlib.contextmanager
    def blocked(self, call: Callable[[], object]) -> Iterator[None]:
        """Another thread is inside the call, with the locks it took."""
        self.holds = True
        thread = threading.Thread(target=call)
        thread.start()
        assert self.held.wait(30)
        try:
            yield
        finally:
            self.released.set()
            thread.join()
