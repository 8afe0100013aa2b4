"""The Kubernetes source with the rights of its own manifests, against a real API server."""

import asyncio
import base64
import json
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from required_servers import read_variable

from lite_registry import LiteRegistryServer
from lite_registry.command import main
from lite_registry.http_client import HttpClient
from lite_registry.kubernetes.access import read_kubeconfig
from lite_registry.kubernetes.source import KubernetesRoutes

MANIFESTS = Path(__file__).parents[2] / "packages/lite-registry/deploy/kustomize"


class Cluster:
    """A namespace of the test's own in the cluster that KUBECONFIG names."""

    def __init__(self, folder: Path) -> None:
        read_variable("KUBECONFIG")
        self.folder = folder
        self.namespace = f"lite-{uuid4().hex[:8]}"
        assets = os.environ.get("KUBEBUILDER_ASSETS", "")
        self.program = f"{assets}/kubectl" if assets else "kubectl"

    def kubectl(self, *arguments: str, given: object = None) -> str:
        answer = subprocess.run(
            [self.program, "--namespace", self.namespace, *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def apply(self, *items: dict[str, object]) -> None:
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})

    def account(self) -> Path:
        """Apply the manifests; a kubeconfig for the service account made from them."""
        rendered = self.kubectl("kustomize", str(MANIFESTS))
        manifest = self.folder / "manifest.yaml"
        manifest.write_text(rendered)
        self.kubectl("apply", "-f", str(manifest))
        token = self.kubectl("create", "token", "lite-registry", "--duration=1h").strip()
        whole = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        config = {
            "current-context": "test",
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "c", "user": "u", "namespace": self.namespace},
                }
            ],
            "clusters": [{"name": "c", "cluster": whole["clusters"][0]["cluster"]}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(config))
        return file


def service(name: str, **labels: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {"ports": [{"name": "http", "port": 8000}]},
    }


def endpoints(name: str, *, ready: bool = True) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-test", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.7"], "conditions": {"ready": ready}}],
        "ports": [{"name": "http", "port": 8000}],
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    cluster.kubectl("create", "namespace", cluster.namespace)
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[LiteRegistryServer]:
    cluster.apply(service("orders", app="orders"), endpoints("orders"))
    source = KubernetesRoutes(
        read_kubeconfig(cluster.account()), namespaces=(cluster.namespace,), grace_seconds=0.5
    )
    async with LiteRegistryServer(port=0, source=source) as server:
        yield server


async def shows(server: LiteRegistryServer, accept: Callable[[dict[str, object]], bool]) -> None:
    client, seen = HttpClient(server.url), {}
    for _ in range(500):
        answer = await client.ask("GET", "/v1/routes")
        seen = answer.json()
        if answer.status == 200 and not seen["stale"] and accept(seen["services"]):  # type: ignore[arg-type]
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within 10 s: {seen}")


def lanes(*wanted: str) -> Callable[[dict[str, object]], bool]:
    def accept(services: dict[str, object]) -> bool:
        orders = services.get("orders")
        return isinstance(orders, dict) and orders["lanes"] == list(wanted)

    return accept


def knows(lane: str) -> Callable[[dict[str, object]], bool]:
    def accept(services: dict[str, object]) -> bool:
        orders = services.get("orders")
        return isinstance(orders, dict) and lane in orders["lane"]

    return accept


async def test_lanes_come_and_go_with_their_services_and_endpoints(
    cluster: Cluster, server: LiteRegistryServer
) -> None:
    await shows(server, lanes())
    cluster.apply(service("orders-dev", app="orders", lane="dev"))
    cluster.apply(endpoints("orders-dev", ready=False))
    await shows(server, knows("dev"))
    await shows(server, lanes())
    cluster.apply(endpoints("orders-dev"))
    await shows(server, lanes("dev"))
    cluster.kubectl("label", "service", "orders-dev", "lane-")
    await shows(server, lanes())
    cluster.kubectl("label", "service", "orders-dev", "lane=dev")
    await shows(server, lanes("dev"))
    cluster.kubectl("delete", "service", "orders-dev")
    await shows(server, lanes())


async def test_a_change_is_answered_within_300_ms_at_the_median(
    cluster: Cluster, server: LiteRegistryServer
) -> None:
    cluster.apply(service("orders-dev", app="orders", lane="dev"))
    await shows(server, knows("dev"))
    admin = await read_kubeconfig(Path(os.environ["KUBECONFIG"])).client()
    target = f"/api/v1/namespaces/{cluster.namespace}/services/orders-dev"
    client, took = HttpClient(server.url), []
    for number in range(11):
        version = (await client.ask("GET", "/v1/routes")).json()["version"]
        watch = asyncio.create_task(
            client.ask("GET", f"/v1/routes?watch=1&version={version}&timeout=20s")
        )
        await asyncio.sleep(0.05)
        patch = {"spec": {"ports": [{"name": "http", "port": 8001 + number}]}}
        began = time.perf_counter()
        answer = await admin.ask(
            "PATCH",
            target,
            document=patch,
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.status == 200, answer.body
        assert (await watch).status == 200
        took.append(time.perf_counter() - began)
    median = statistics.median(took)
    print(
        f"change to answer: median {median * 1000:.0f} ms of {len(took)}, worst {max(took):.3f} s"
    )
    assert median <= 0.3


async def test_check_says_what_is_there_and_what_is_missing(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cluster.account()
    command = ["check", "--source", "kubernetes", "--kubeconfig", str(config)]
    assert await asyncio.to_thread(main, command) == 0
    assert f"ok      watch endpointslices.discovery.k8s.io in namespace {cluster.namespace}" in (
        capsys.readouterr().out
    )
    cluster.kubectl("delete", "rolebinding", "lite-registry")
    for _ in range(50):
        code = await asyncio.to_thread(main, command)
        if code == 1:
            break
        await asyncio.sleep(0.1)
    told = capsys.readouterr().out
    assert f"MISSING list services in namespace {cluster.namespace}: not allowed; grant" in told
    assert await asyncio.to_thread(main, [*command, "--all-namespaces"]) == 1
    assert "a ClusterRole and its binding" in capsys.readouterr().out


async def test_every_way_to_log_in_that_a_kubeconfig_knows(cluster: Cluster) -> None:
    cluster.apply(service("orders", app="orders"), endpoints("orders"))
    for config in logins(cluster):
        source = KubernetesRoutes(read_kubeconfig(config), namespaces=(cluster.namespace,))
        async with LiteRegistryServer(port=0, source=source) as server:
            await shows(server, lanes())


def logins(cluster: Cluster) -> Iterator[Path]:
    """Client certificate as data and as files, token, token file, plugin; CA as data and file."""
    base = json.loads(cluster.account().read_text())
    admin = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = base["users"][0]["user"]["token"]
    (cluster.folder / "token").write_text(token)
    plugin = cluster.folder / "plugin"
    printed = {"kind": "ExecCredential", "status": {"token": token}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(printed)}'\n")
    plugin.chmod(0o700)
    exec_plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}
    users = [{"tokenFile": "token"}, {"exec": exec_plugin}, admin["users"][0]["user"]]
    certificate = admin["users"][0]["user"]
    if "client-certificate-data" in certificate:
        for name in ("client-certificate", "client-key"):
            content = base64.b64decode(certificate[f"{name}-data"])
            (cluster.folder / name).write_bytes(content)
        users.append({"client-certificate": "client-certificate", "client-key": "client-key"})
    for number, user in enumerate(users):
        base["users"][0]["user"] = user
        file = cluster.folder / f"login-{number}"
        file.write_text(json.dumps(base))
        yield file
