"""The operator's side: metrics, status page, events, settings, the other commands."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from lite_registry import FileRoutes, LiteRegistryServer, SettingsError, StaticRoutes
from lite_registry.command import main
from lite_registry.http_client import HttpClient
from lite_registry.http_listener import HttpListener
from lite_registry.metrics import Metrics
from lite_registry.request import Request
from lite_registry.response import Response, build_json_response
from lite_registry.routes import parse_routes
from lite_registry.settings import OPTIONS, resolve_settings
from lite_registry.tokens import TokenFile

ROUTES = {"services": {"orders": {"lanes": ["dev"], "port": 8000}}}
INSTANCE = {"ip": "10.0.0.7", "port": 8000, "metadata": {"lane": "dev"}}


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps(ROUTES))
    return file


@pytest.fixture
async def served(routes: Path) -> AsyncIterator[LiteRegistryServer]:
    source = FileRoutes(routes, poll_seconds=0.01)
    async with LiteRegistryServer(port=0, source=source) as server:
        client = HttpClient(server.url)
        await client.request("PUT", "/v1/instances/orders/a", document=INSTANCE)
        yield server


async def test_metrics_are_prometheus_text_with_bounded_labels(served: LiteRegistryServer) -> None:
    client = HttpClient(served.url)
    for path in ("/v1/routes", "/v1/routes/orders", "/v1/routes/x%22y", "/secret-token-in-path"):
        await client.request("GET", path)
    response = await client.request("GET", "/metrics")
    text = response.body.decode()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'lite_registry_http_requests_total{path="/v1/routes/{service}",status="404"} 1' in text
    assert 'lite_registry_http_requests_total{path="other",status="404"} 1' in text
    assert "secret" not in text
    assert 'lite_registry_routes{service="orders",lane="dev"} 0' in text
    assert "lite_registry_instances 1" in text
    line = re.compile(r'#.*|[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [-+0-9.e]+|')
    assert all(line.fullmatch(each) for each in text.splitlines())


def test_a_label_value_cannot_break_out_of_its_quotes() -> None:
    metrics = Metrics()
    metrics.count("relists", reason='a"b\\c\nd')
    assert rb'{reason="a\"b\\c\nd"} 1' in metrics.render()


async def test_the_interface_describes_itself(served: LiteRegistryServer) -> None:
    client = HttpClient(served.url)
    document = (await client.request("GET", "/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    paths = document["paths"]
    assert isinstance(paths, dict)
    for path in paths:
        target = path.replace("{service}", "orders").replace("{instance_id}", "a")
        response = await client.request("GET", target)
        assert response.status in {200, 405}, path


async def test_the_status_page_is_one_file_that_fetches_nothing_from_elsewhere(
    served: LiteRegistryServer,
) -> None:
    response = await HttpClient(served.url).request("GET", "/")
    page = response.body.decode()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "http://" not in page
    assert "https://" not in page
    assert "innerHTML" not in page


async def events(client: HttpClient, target: str) -> AsyncIterator[dict[str, object]]:
    fields = {"accept": "text/event-stream"}
    async with client.stream("GET", target, headers=fields) as response:
        assert response.headers["content-type"] == "text/event-stream"
        incomplete = b""
        async for chunk in response.chunks:
            *complete, incomplete = (incomplete + chunk).split(b"\n\n")
            for event in complete:
                if event.startswith(b"id: "):
                    yield json.loads(event.partition(b"data: ")[2])


async def test_events_bring_the_state_and_then_each_change(
    served: LiteRegistryServer, routes: Path
) -> None:
    client = HttpClient(served.url)
    stream = events(client, "/v1/status")
    first = await anext(stream)
    assert '"10.0.0.7"' in json.dumps(first["instances"])
    routes.write_text('{"services": {"orders": {"lanes": [], "port": 8000}}}')  # noqa: ASYNC240
    second = await anext(stream)
    assert second["routes"] != first["routes"]
    changes = json.dumps(second["changes"])
    assert "lane dev removed" in changes
    assert "instance a registered" in changes
    await stream.aclose()  # type: ignore[attr-defined]


async def test_events_of_routes_and_instances_end_with_the_server(
    served: LiteRegistryServer,
) -> None:
    client = HttpClient(served.url)
    targets = ("/v1/routes", "/v1/routes/orders", "/v1/instances/orders")
    streams = [events(client, target) for target in targets]
    for stream in streams:
        await anext(stream)
    await served.aclose()
    for stream in streams:
        assert [event async for event in stream] == []


async def test_events_of_a_service_end_when_it_is_gone(
    served: LiteRegistryServer, routes: Path
) -> None:
    stream = events(HttpClient(served.url), "/v1/routes/orders")
    await anext(stream)
    routes.write_text('{"services": {}}')  # noqa: ASYNC240
    assert [event async for event in stream] == []


async def test_a_server_that_shuts_down_is_first_not_ready() -> None:
    gate, is_lingering = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == 7.0:
            is_lingering.set()
        await gate.wait()

    server = LiteRegistryServer(port=0, sleep=sleep, linger_seconds=7.0)
    await server.__aenter__()
    closing = asyncio.create_task(server.aclose())
    await is_lingering.wait()
    client = HttpClient(server.url)
    assert (await client.request("GET", "/readyz")).status == 503
    assert (await client.request("GET", "/healthz")).status == 200
    assert (await client.request("GET", "/v1/routes?watch=1")).status == 200
    gate.set()
    await closing


class FailingSource(StaticRoutes):
    """A source whose first run ends in a defect."""

    def __init__(self) -> None:
        super().__init__(parse_routes(ROUTES))
        self.failed = False
        self.restarted = asyncio.Event()

    async def run(self) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("a defect of the source")
        self.restarted.set()
        await asyncio.Event().wait()


async def test_a_source_that_breaks_off_turns_readiness_and_is_restarted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    restart = asyncio.Event()
    source = FailingSource()

    async def sleep(_: float) -> None:
        await restart.wait()

    async with LiteRegistryServer(port=0, source=source, sleep=sleep) as server:
        client = HttpClient(server.url)
        response = await client.request("GET", "/readyz")
        assert response.status == 503
        assert response.json() == {"status": "restarting a task", "tasks": ["route source"]}
        assert "a defect of the source" in caplog.text
        assert (await client.request("GET", "/v1/routes")).status == 200
        metrics = await client.request("GET", "/metrics")
        assert b"lite_registry_tasks_down 1" in metrics.body
        restart.set()
        await source.restarted.wait()
        assert (await client.request("GET", "/readyz")).status == 200


# settings


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nhost = "file"\nnamespace = ["a", "b"]\ninsecure = true\n')
    return file


def test_flags_win_over_the_environment_over_the_file_over_defaults(
    settings_file: Path,
) -> None:
    environment = {"LITE_REGISTRY_PORT": "2", "LITE_REGISTRY_HOST": "variable"}
    values = resolve_settings({"port": "3"}, environment, settings_file)
    assert (values["port"], values["host"], values["namespace"]) == (3, "variable", ("a", "b"))
    assert (values["insecure"], values["capacity"]) == (True, 50_000)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("port", "x", "must be a number from 0 to 65535, not 'x'"),
        ("source", "cloud", "must be one of static, file, kubernetes, not 'cloud'"),
        ("capacity", "0", "must be a whole number of at least 1, not '0'"),
        ("preserve_share", "2", "must be a number above 0, at most 1, not '2'"),
        ("grace", "-1", "must be a number of seconds from 0 to 86400, not '-1'"),
        ("insecure", "maybe", "must be true or false, not 'maybe'"),
        ("linger", "nan", "must be a number of seconds from 0 to 86400, not 'nan'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_origin(
    key: str, value: str, message: str, tmp_path: Path
) -> None:
    variable = f"LITE_REGISTRY_{key.upper()}"
    with pytest.raises(SettingsError, match=f"^{variable} {re.escape(message)}"):
        resolve_settings({}, {variable: value}, None)
    with pytest.raises(SettingsError, match=f"^--{key.replace('_', '-')} {re.escape(message)}"):
        resolve_settings({key: value}, {}, None)
    file = tmp_path / "settings.toml"
    file.write_text(f"{key} = '{value}'")
    with pytest.raises(SettingsError, match=f"^{key} in .*settings.toml {re.escape(message)}"):
        resolve_settings({}, {}, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [("port: 1", "it must be TOML"), ("prot = 1", "no setting 'prot'"), ("[port]", "not a table")],
)
def test_a_wrong_settings_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=message):
        resolve_settings({}, {}, file)


def test_every_flag_of_the_published_interface_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    message = capsys.readouterr().out
    for flag in (
        *("host", "port", "source", "kubeconfig", "context", "namespace", "all-namespaces"),
        *("file", "snapshot", "store", "token-file", "insecure", "config"),
    ):
        assert f"--{flag} " in message
    assert {option.variable for option in OPTIONS} >= {"LITE_REGISTRY_TOKEN_FILE"}


# the other commands


@pytest.fixture
def url(routes: Path) -> Iterator[str]:
    """A server in a thread, since the commands run an event loop themselves."""
    started, urls = threading.Event(), []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        is_over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with LiteRegistryServer(port=0, source=FileRoutes(routes)) as server:
            client = HttpClient(server.url)
            await client.request("PUT", "/v1/instances/orders/a", document=INSTANCE)
            urls.append(server.url)
            stop.append(lambda: loop.call_soon_threadsafe(is_over.set))
            started.set()
            await is_over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5)
    yield urls[0]
    stop[0]()
    thread.join()


def test_routes_and_instances_are_shown_as_tables(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["routes", "--url", url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SERVICE  LANE    HOST        PORT  READY",
        "orders   (base)  orders      8000  ?",
        "orders   dev     orders-dev  8000  ?",
    ]
    assert main(["routes", "orders", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lanes"] == ["dev"]
    assert main(["instances", "--url", url]) == 0
    assert capsys.readouterr().out.split() == (
        ["SERVICE", "GROUP", "NAMESPACE", "INSTANCES", "orders", "1"]
    )
    assert main(["instances", "orders", "--url", url]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == (
        ["a", "10.0.0.7:8000", "1", "up", "lane=dev"]
    )


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (["routes"], ["route", "list"]),
        (["routes", "orders"], ["route", "get", "orders"]),
        (["instances"], ["instance", "list"]),
        (["instances", "orders"], ["instance", "list", "orders"]),
    ],
)
def test_area_and_verb_say_the_same_as_the_short_spellings(
    url: str, short: list[str], long: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for words in (short, long):
        assert main([*words, "--url", url]) == 0
        outputs.append(capsys.readouterr().out)
        for command in (["--json", *words, "--url", url], [*words, "--url", url, "--json"]):
            assert main(command) == 0
            outputs.append(str(json.loads(capsys.readouterr().out).keys()))
    assert outputs[:3] == outputs[3:]


def test_a_missing_service_or_server_is_one_line(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["routes", "unknown", "--url", url]) == 2
    assert "no route is known for 'unknown'" in capsys.readouterr().err
    assert main(["routes", "--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("lite-registry: 127.0.0.1:1: ")
    assert main(["routes", "--url", "host:80"]) == 2
    assert "--url must be an http address" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_check_reads_the_settings(routes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--source", "file", "--file", str(routes)]) == 0
    assert capsys.readouterr().out == "ok      settings are complete\n"


def test_check_of_a_cluster_that_is_not_there_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    }
    config.write_text(json.dumps(document))
    assert main(["check", "--source", "kubernetes", "--kubeconfig", str(config)]) == 1
    assert "MISSING API server http://127.0.0.1:1" in capsys.readouterr().out
    flags = ["--namespace", "a", "--all-namespaces"]
    assert main(["check", "--source", "kubernetes", "--kubeconfig", str(config), *flags]) == 2
    assert "exclude each other; give one" in capsys.readouterr().err


def test_a_server_without_leases_refuses_them(routes: Path) -> None:
    from lite_registry.no_store import NoStore

    async def run() -> None:
        async with LiteRegistryServer("0.0.0.0", port=0, store=NoStore()) as server:
            client = HttpClient(f"http://127.0.0.1:{server.port}")
            for method, target in (
                ("PUT", "/v1/instances/orders/a"),
                ("DELETE", "/v1/instances/orders/a"),
                ("POST", "/v1/instances/orders/a/renew"),
            ):
                document = INSTANCE if method == "PUT" else None
                response = await client.request(method, target, document=document)
                assert response.status == 501
            assert (await client.request("GET", "/v1/instances/orders")).json()["instances"] == []
            assert (await client.request("GET", "/v1/instances/orders/a")).status == 404
            assert (await client.request("GET", "/v1/instances")).json() == {"services": []}

    asyncio.run(run())


def test_tokens_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "tokens"
    file.write_text("the-first-token-of-two")
    tokens = TokenFile(file, clock=lambda: now)

    def is_allowed(token: str) -> bool:
        from lite_registry.errors import Problem

        try:
            tokens.authorize(f"Bearer {token}")
        except Problem:
            return False
        return True

    assert is_allowed("the-first-token-of-two")
    file.write_text("# both for a while\nthe-first-token-of-two\nthe-second-token-of-two\n")
    assert not is_allowed("the-second-token-of-two")
    now = 1.0
    assert is_allowed("the-second-token-of-two")
    assert is_allowed("the-first-token-of-two")
    file.write_text("")
    now = 2.0
    assert is_allowed("the-second-token-of-two")
    file.unlink()
    now = 3.0
    assert is_allowed("the-second-token-of-two")


# a cluster for `check` and `serve`


class Reviewer:
    """An API server that knows its version and the permissions."""

    def __init__(self, *allowed: str, status: int = 201) -> None:
        self.allowed = allowed
        self.status = status

    def handle(self, request: Request) -> Response:
        if request.target == b"/version":
            return build_json_response(200, {"gitVersion": "v1.34.2"})
        if not request.body:
            return build_json_response(403, {"message": "no"})
        attributes = json.loads(request.body)["spec"]["resourceAttributes"]
        allowed = f"{attributes['verb']} {attributes['resource']}" in self.allowed
        return build_json_response(self.status, {"status": {"allowed": allowed}})


def cluster(tmp_path: Path, reviewer: Reviewer, *arguments: str) -> int:
    """Run the command against such a server; returns its exit code."""
    started, stop, ports = threading.Event(), [], []

    async def serve() -> None:
        is_over, loop = asyncio.Event(), asyncio.get_running_loop()
        listener = HttpListener(reviewer.handle)
        ports.append(await listener.listen("127.0.0.1", 0))
        stop.append(lambda: loop.call_soon_threadsafe(is_over.set))
        started.set()
        await is_over.wait()
        await listener.aclose(0.0)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5)
    config = tmp_path / "config"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{ports[0]}"}}],
    }
    config.write_text(json.dumps(document))
    try:
        return main([*arguments, "--source", "kubernetes", "--kubeconfig", str(config)])
    finally:
        stop[0]()
        thread.join()


EVERYTHING = [
    f"{verb} {resource}"
    for resource in ("services", "endpointslices")
    for verb in ("list", "watch")
]


def test_check_names_every_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster(tmp_path, Reviewer(*EVERYTHING), "check") == 0
    message = capsys.readouterr().out.splitlines()
    assert "ok      list services in namespace shop" in message
    assert all(line.startswith("ok ") for line in message)


@pytest.mark.parametrize(
    ("reviewer", "scope", "message"),
    [
        (Reviewer(*EVERYTHING[:3]), [], "MISSING watch endpointslices.discovery.k8s.io in namesp"),
        (Reviewer(), ["--all-namespaces"], "grant it with a ClusterRole and its binding"),
        (Reviewer(status=401), [], "the credentials are not accepted; get new ones"),
    ],
)
def test_check_names_what_is_missing(
    tmp_path: Path,
    reviewer: Reviewer,
    scope: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cluster(tmp_path, reviewer, "check", *scope) == 1
    assert message in capsys.readouterr().out


def test_check_includes_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("redis")
    assert main(["check", "--store", "redis://127.0.0.1:1/0"]) == 1
    assert "MISSING the store of leases: " in capsys.readouterr().out
    assert main(["serve", "--store", "http://elsewhere"]) == 2
    assert "--store must be memory or a url" in capsys.readouterr().err


def test_a_pod_without_an_account_gets_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert main(["serve", "--source", "kubernetes"]) == 2
    assert "set automountServiceAccountToken, or give --kubeconfig" in capsys.readouterr().err
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert main(["serve", "--source", "kubernetes"]) == 2
    assert "/nowhere/config" in capsys.readouterr().err
