"""What lite-registry shows while a real API server fails in every way it can.

A control plane of the test's own is started by the program that REFERENCE_SERVERS names. All the
time a witness asks for the routes: it may only ever see states that existed.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from required_servers import servers_command, skip_without

from lite_registry import FileRoutes, LiteRegistryServer
from lite_registry.http_client import HttpClient, HttpClientError
from lite_registry.kubernetes.access import read_kubeconfig
from lite_registry.kubernetes.source import KubernetesRoutes

pytestmark = pytest.mark.timeout(240)

NAMESPACE = "lite-faults"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.program = servers_command("kube")
        self.folder = folder
        roles = ("apiserver", "etcd", "etcd-peer", "controller-manager")
        self.ports = dict(zip(roles, free_ports(4), strict=True))
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("KUBE")
        } | {"REFERENCE_SERVERS_RUN": str(folder / "run")}

    def servers(self, *arguments: str) -> str:
        answer = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return answer.stdout

    def up(self) -> None:
        ports = [f"--port={role}={port}" for role, port in self.ports.items()]
        self.servers("up", "kube", *ports)
        exported = re.findall(r"^export (KUBE\w+)=(.*)$", self.servers("env", "kube"), re.MULTILINE)
        self.variables = {name: value.strip("'\"") for name, value in exported}
        (self.folder / "token").write_text(self.variables["KUBE_TOKEN"])

    def kubectl(self, *arguments: str, given: object = None) -> str:
        answer = subprocess.run(
            [f"{self.variables['KUBEBUILDER_ASSETS']}/kubectl", "-n", NAMESPACE, *arguments],
            env=self.environment | self.variables,
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def lane(self, lane: str) -> None:
        """Create the service of a lane with one ready endpoint."""
        name = f"orders-{lane}" if lane else "orders"
        labels = {"app": "orders", **({"lane": lane} if lane else {})}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"ports": [{"port": 8000}]},
        }
        endpoints = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.0.7"]}],
            "ports": [{"port": 8000}],
        }
        items = {"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}
        self.kubectl("apply", "-f", "-", given=items)

    def drop(self, lane: str) -> None:
        self.kubectl("delete", "service,endpointslice", f"orders-{lane}")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    plane.up()
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.lane("")
    yield plane
    plane.servers("down", "--purge")


class Wire:
    """Everything between the registry and the API server goes through here, and can be cut."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.connections: set[asyncio.StreamWriter] = set()
        self.attempts = 0
        self.silent = False

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.connections |= {writer, far_writer}
            await asyncio.gather(
                self._pump(reader, far_writer),
                self._pump(far_reader, writer),
                return_exceptions=True,
            )
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.silent:
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()


class Witness:
    """Asks for the routes all the time and remembers each state it saw."""

    def __init__(self, url: str) -> None:
        self.client = HttpClient(url)
        self.seen: list[tuple[str, ...]] = []
        self.stale = False
        self.was_stale = False
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(HttpClientError):
                answer = await self.client.ask("GET", "/v1/routes")
                if answer.status == 200:
                    self._note(answer.json())
            await asyncio.sleep(0.02)

    def _note(self, whole: dict[str, object]) -> None:
        services = whole["services"]
        assert isinstance(services, dict)
        state = tuple(services["orders"]["lanes"]) if "orders" in services else ("nothing",)
        self.stale = bool(whole["stale"])
        self.was_stale |= self.stale
        if self.seen[-1:] != [state]:
            self.seen.append(state)

    async def shows(self, *lanes: str) -> None:
        await self._until(lambda: self.seen[-1:] == [lanes] and not self.stale)

    async def marked(self) -> None:
        await self._until(lambda: self.stale)

    async def _until(self, condition: Callable[[], bool]) -> None:
        for _ in range(6000):
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within 120 s; seen: {self.seen}, stale: {self.stale}")


class Setup:
    """The registry, reached over HTTP, with a wire to the control plane."""

    def __init__(self, plane: ControlPlane, wire: Wire, witness: Witness) -> None:
        self.plane = plane
        self.wire = wire
        self.witness = witness

    async def do(self, *arguments: str) -> None:
        await asyncio.to_thread(self.plane.servers, *arguments)

    async def lane(self, lane: str) -> None:
        await asyncio.to_thread(self.plane.lane, lane)

    async def drop(self, lane: str) -> None:
        await asyncio.to_thread(self.plane.drop, lane)


async def short_sleep(seconds: float) -> None:
    """Pauses between attempts grow to a minute; here nobody waits that long."""
    await asyncio.sleep(min(seconds, 3.0))


def write_config(plane: ControlPlane, port: int, authority: Path | None = None) -> Path:
    """A kubeconfig whose certificates and token are files, and may be replaced."""
    config = {
        "current-context": "t",
        "contexts": [{"name": "t", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority": str(authority or plane.variables["KUBE_CA_FILE"]),
                },
            }
        ],
        "users": [{"name": "u", "user": {"tokenFile": str(plane.folder / "token")}}],
    }
    file = plane.folder / f"config-{port}"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
async def setup(plane: ControlPlane) -> AsyncIterator[Setup]:
    wire = Wire(plane.ports["apiserver"])
    await wire.start()
    plane.lane("dev")
    source = KubernetesRoutes(
        read_kubeconfig(write_config(plane, wire.port)),
        namespaces=(NAMESPACE,),
        grace_seconds=0.0,
        silence_seconds=3.0,
        sleep=short_sleep,
    )
    async with LiteRegistryServer(port=0, source=source) as server:
        witness = Witness(server.url)
        await witness.shows("dev")
        yield Setup(plane, wire, witness)
        witness.task.cancel()
    wire.cut()
    wire.server.close()
    for lane in ("dev", "test"):
        with contextlib.suppress(AssertionError):
            plane.drop(lane)


async def test_connections_that_are_cut(setup: Setup) -> None:
    for _ in range(3):
        setup.wire.cut()
    await setup.lane("test")
    await setup.witness.shows("dev", "test")
    assert setup.witness.seen == [("dev",), ("dev", "test")]


async def test_an_api_server_that_is_killed(setup: Setup) -> None:
    await setup.do("kill", "kube:apiserver")
    await setup.witness.marked()
    await asyncio.to_thread(setup.plane.up)
    await setup.drop("dev")
    await setup.witness.shows()
    assert setup.witness.seen == [("dev",), ()]


async def test_an_api_server_that_is_restarted_and_has_forgotten_the_version(setup: Setup) -> None:
    await setup.do("restart", "kube:apiserver")
    await setup.drop("dev")
    await setup.witness.shows()
    assert setup.witness.seen == [("dev",), ()]


async def test_an_api_server_that_hangs(setup: Setup) -> None:
    await setup.do("pause", "kube:apiserver")
    await setup.witness.marked()
    await setup.do("resume", "kube:apiserver")
    await setup.lane("test")
    await setup.witness.shows("dev", "test")
    assert setup.witness.seen == [("dev",), ("dev", "test")]


async def test_a_wire_that_carries_nothing(setup: Setup) -> None:
    setup.wire.silent = True
    await setup.lane("test")
    await setup.witness.marked()
    setup.wire.silent = False
    await setup.witness.shows("dev", "test")
    assert setup.witness.seen == [("dev",), ("dev", "test")]


async def test_versions_that_were_compacted_away(setup: Setup) -> None:
    setup.wire.silent = True
    await setup.lane("test")
    await setup.drop("dev")
    await setup.do("compact", "kube")
    await setup.do("restart", "kube:apiserver")
    setup.wire.cut()
    setup.wire.silent = False
    await setup.witness.shows("test")
    assert setup.witness.seen == [("dev",), ("test",)]


async def test_credentials_that_are_no_longer_accepted(setup: Setup) -> None:
    token = setup.plane.folder / "token"
    good = token.read_text()
    token.write_text("expired")
    setup.wire.cut()
    # The token read last is still good, so the registry learns of it when it reads anew.
    await setup.lane("test")
    await setup.witness.shows("dev", "test")
    token.write_text(good)


async def test_rights_that_are_taken_and_given_back(setup: Setup, plane: ControlPlane) -> None:
    manifests = Path(__file__).parents[2] / "packages/lite-registry/deploy/kustomize/account.yaml"
    await asyncio.to_thread(plane.kubectl, "apply", "-f", str(manifests))
    account = await asyncio.to_thread(plane.kubectl, "create", "token", "lite-registry")
    token, wire = plane.folder / "token", Wire(plane.ports["apiserver"])
    admin = token.read_text()
    token.write_text(account)
    await wire.start()
    source = KubernetesRoutes(
        read_kubeconfig(write_config(plane, wire.port)),
        namespaces=(NAMESPACE,),
        sleep=short_sleep,
    )
    async with LiteRegistryServer(port=0, source=source) as server:
        witness = Witness(server.url)
        await witness.shows("dev")
        await asyncio.to_thread(plane.kubectl, "delete", "rolebinding", "lite-registry")
        await asyncio.sleep(0.5)
        wire.cut()
        await witness.marked()
        assert witness.seen == [("dev",)]
        await setup.lane("test")
        await asyncio.to_thread(plane.kubectl, "apply", "-f", str(manifests))
        await witness.shows("dev", "test")
        assert witness.seen == [("dev",), ("dev", "test")]

        # The account is made anew: its tokens are worth nothing, and a new one comes in the file.
        await asyncio.to_thread(plane.kubectl, "delete", "serviceaccount", "lite-registry")
        await asyncio.to_thread(plane.kubectl, "create", "serviceaccount", "lite-registry")
        await asyncio.sleep(0.5)
        wire.cut()
        await witness.marked()
        token.write_text(await asyncio.to_thread(plane.kubectl, "create", "token", "lite-registry"))
        await setup.drop("test")
        await witness.shows("dev")
        assert witness.seen == [("dev",), ("dev", "test"), ("dev",)]
        witness.task.cancel()
    token.write_text(admin)
    wire.server.close()


async def test_an_authority_that_is_replaced(setup: Setup, plane: ControlPlane) -> None:
    """The certificates are read again when their file changes: first to a wrong one, then back."""
    authority, wire = plane.folder / "ca.crt", Wire(plane.ports["apiserver"])
    good = Path(plane.variables["KUBE_CA_FILE"]).read_bytes()  # noqa: ASYNC240
    authority.write_bytes(good)
    await wire.start()
    config = write_config(plane, wire.port, authority)
    source = KubernetesRoutes(read_kubeconfig(config), namespaces=(NAMESPACE,), sleep=short_sleep)
    async with LiteRegistryServer(port=0, source=source) as server:
        witness = Witness(server.url)
        await witness.shows("dev")
        other = plane.folder / "other"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
        command += ["-keyout", str(other), "-out", str(authority)]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        wire.cut()
        await witness.marked()
        await setup.lane("test")
        assert witness.seen == [("dev",)]
        authority.write_bytes(good)
        await witness.shows("dev", "test")
        assert witness.seen == [("dev",), ("dev", "test")]
        witness.task.cancel()
    wire.cut()
    wire.server.close()


async def test_a_refused_connection_costs_next_to_nothing(setup: Setup) -> None:
    setup.wire.server.close()
    setup.wire.cut()
    await setup.witness.marked()
    before = os.times()
    setup.witness.task.cancel()
    await asyncio.sleep(10)
    after = os.times()
    spent = after.user + after.system - before.user - before.system
    print(f"API server refusing for 10 s: {spent * 10:.2f} % of one core (this whole process)")
    assert spent < 0.1


async def test_an_etcd_that_was_wiped_is_believed_after_a_second_look(setup: Setup) -> None:
    for number in range(4):
        await setup.lane(f"extra-{number}")
    everything = ("dev", *(f"extra-{number}" for number in range(4)))
    await setup.witness.shows(*everything)
    known = len(setup.witness.seen)
    await setup.do("down", "kube", "--purge")
    await setup.witness.marked()
    await asyncio.to_thread(setup.plane.up)
    await setup.witness.shows("nothing")
    assert setup.witness.seen[known:] == [("nothing",)]
    await asyncio.to_thread(setup.plane.kubectl, "create", "namespace", NAMESPACE)
    await setup.lane("")
    await setup.lane("dev")
    await setup.witness.shows("dev")


def test_a_registry_killed_again_and_again_always_finds_a_whole_snapshot(tmp_path: Path) -> None:
    snapshot, routes = tmp_path / "snapshot.json", tmp_path / "routes.json"
    rng = random.Random(7)
    command = [sys.executable, "-m", "lite_registry", "serve", "--port", "0", "--source", "file"]
    command += ["--file", str(routes), "--snapshot", str(snapshot)]
    for number in range(8):
        services = {f"s{n}": {"port": 80 + number, "lanes": ["dev"]} for n in range(300)}
        routes.write_text(json.dumps({"services": services}))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            assert program.stderr is not None
            assert "listens" in program.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(rng.uniform(0.0, 0.15))
            program.send_signal(signal.SIGKILL)
            assert "is not used" not in program.stderr.read()
        if snapshot.exists():
            json.loads(snapshot.read_text())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        skip_without("root", "a small file system cannot be mounted: that takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_costs_nothing_but_the_newest_snapshot(
    small_disk: Path, tmp_path: Path
) -> None:
    snapshot, routes = small_disk / "snapshot.json", tmp_path / "routes.json"
    filler = small_disk / "filler"
    source = FileRoutes(routes, poll_seconds=0.05)
    write_routes(routes, "first")
    async with LiteRegistryServer(port=0, source=source, snapshot=snapshot) as server:
        client = HttpClient(server.url)
        await until(lambda: snapshot.exists() and '"first"' in snapshot.read_text())
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        write_routes(routes, "second")
        await says(client, "/v1/routes", b'"second"')
        await says(client, "/metrics", b"lite_registry_snapshot_failures_total 1")
        assert '"first"' in snapshot.read_text()
        assert {path.name for path in small_disk.iterdir()} == {"snapshot.json", "filler"}  # noqa: ASYNC240
        filler.unlink()
        write_routes(routes, "third")
        await until(lambda: '"third"' in snapshot.read_text())


def write_routes(file: Path, lane: str) -> None:
    file.write_text(json.dumps({"services": {"orders": {"port": 80, "lanes": [lane]}}}))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def says(client: HttpClient, target: str, piece: bytes) -> None:
    """Wait until the server's answer holds this."""
    async with asyncio.timeout(20):
        while piece not in (await client.ask("GET", target)).body:
            await asyncio.sleep(0.02)
