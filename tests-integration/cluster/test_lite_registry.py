"""lite-registry as a team would run it: from its manifests and from its chart, with its own rights."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx
import pytest
from kubernetes_namespace import ROOT, Namespace, from_outside, through_api_server, wait_until
from required_servers import skip_without

pytestmark = pytest.mark.timeout(240)

MANIFESTS = ROOT / "packages/lite-registry/deploy/kustomize"
CHART = ROOT / "packages/lite-registry/deploy/helm"
IMAGE = "lite-registry:0.1.0"
SELECTOR = "app.kubernetes.io/name=lite-registry"

# Asks the Service with a new connection each time, as a poller behind a load balancer does.
POLLER = """
import sys, time, urllib.request
while True:
    try:
        with urllib.request.urlopen(sys.argv[1] + "/v1/routes", timeout=5) as answer:
            print(answer.status, flush=True)
    except Exception as error:
        print("failed:", error, flush=True)
    time.sleep(0.05)
"""

ASK = """
import sys, urllib.request
with urllib.request.urlopen("{url}", timeout=5) as answer:
    print(answer.headers["etag"], answer.read().decode())
"""


def lane_service(lane: str) -> list[dict[str, object]]:
    """A Service with one ready endpoint that nobody needs to reach."""
    name = f"orders-{lane}" if lane else "orders"
    labels = {"app": "orders", **({"lane": lane} if lane else {})}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"ports": [{"port": 8000}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.42.0.250"]}],
            "ports": [{"port": 8000}],
        },
    ]


@pytest.fixture(scope="module")
def registry(namespace: Namespace) -> Namespace:
    namespace.apply_text(namespace.kubectl("kustomize", str(MANIFESTS)))
    namespace.apply(*lane_service(""), *lane_service("dev"))
    namespace.rolled_out("lite-registry")
    return namespace


def answers(namespace: Namespace, asker: str, host: str) -> tuple[str, dict[str, object]]:
    """ETag and body of `/v1/routes` at that host, asked from inside a pod."""
    said = namespace.python(asker, ASK.format(url=f"http://{host}:8080/v1/routes"))
    etag, _, body = said.partition(" ")
    return etag, json.loads(body)


def lanes_of(body: dict[str, object]) -> list[str]:
    services = body["services"]
    assert isinstance(services, dict)
    return list(services["orders"]["lanes"]) if "orders" in services else []


def test_both_replicas_say_the_same(registry: Namespace) -> None:
    first, second = registry.pods(SELECTOR)

    def both_know() -> bool:
        found = [answers(registry, first["name"], pod["ip"])[1] for pod in (first, second)]
        return all(lanes_of(body) == ["dev"] for body in found)

    wait_until(both_know, 20, "the lane in both replicas")
    etags = {answers(registry, first["name"], pod["ip"])[0] for pod in (first, second)}
    for pod in (first, second):
        with from_outside(registry, f"pod/{pod['name']}", 8080) as address:
            etags.add(httpx.get(f"{address}/v1/routes", trust_env=False).headers["etag"])
    assert len(etags) == 1


def test_its_account_may_look_at_services_and_endpoints_and_nothing_else(
    registry: Namespace,
) -> None:
    account = f"--as=system:serviceaccount:{registry.name}:lite-registry"
    for allowed in (("list", "services"), ("watch", "endpointslices.discovery.k8s.io")):
        assert registry.run("auth", "can-i", *allowed, account).stdout.strip() == "yes"
    for refused in (
        ("list", "pods"),
        ("get", "secrets"),
        ("create", "services"),
        ("list", "services", "--all-namespaces"),
    ):
        assert registry.run("auth", "can-i", *refused, account).stdout.strip() == "no"


def test_a_container_cannot_write_to_its_root_and_is_not_root(registry: Namespace) -> None:
    pod = registry.pods(SELECTOR)[0]["name"]
    tried = "import os; print(os.getuid()); open('/tmp/x', 'w')"
    refused = registry.run("exec", pod, "--", "python", "-c", tried)
    assert refused.stdout.strip() == "10001"
    assert "Read-only file system" in refused.stderr


@contextmanager
def polled(registry: Namespace) -> Iterator[Callable[[], list[list[str]]]]:
    """Pollers in a pod and outside; what is returned tells what each has seen so far."""
    registry.run_python("poller", IMAGE, POLLER, "http://lite-registry:8080")
    with through_api_server(registry) as base, NamedTemporaryFile("w") as seen:
        outside = subprocess.Popen(
            [sys.executable, "-c", POLLER, f"{base}/services/lite-registry:8080/proxy"],
            stdout=seen,
            env={**os.environ, "no_proxy": "*"},
        )

        def polls() -> list[list[str]]:
            said = registry.run("logs", "poller").stdout, Path(seen.name).read_text()
            return [each.splitlines() for each in said]

        try:
            yield polls
        finally:
            outside.terminate()
            outside.wait()
            registry.run("delete", "pod", "poller", "--grace-period=0", "--force")


def test_a_rolling_restart_costs_no_poll(registry: Namespace) -> None:
    with polled(registry) as polls:
        wait_until(lambda: all(each.count("200") > 10 for each in polls()), 60, "first polls")
        registry.kubectl("rollout", "restart", "deployment/lite-registry")
        registry.rolled_out("lite-registry", 120)
        # The replica that goes last still ends: its pod has to be gone as well.
        wait_until(
            lambda: registry.kubectl("get", "pods", "-l", SELECTOR, "-o", "name").count("\n") == 2,
            60,
            "the old pods gone",
        )
        inside, outside = polls()
    assert min(len(inside), len(outside)) > 50
    assert set(inside) == set(outside) == {"200"}


def test_it_stays_far_below_its_memory_limit(registry: Namespace) -> None:
    resident = "print(next(l for l in open('/proc/1/status') if l.startswith('VmHWM')).split()[1])"
    for pod in registry.pods(SELECTOR):
        peak = int(registry.python(pod["name"], resident)) / 1024
        print(f"{pod['name']}: at most {peak:.1f} MiB resident")
        assert peak < 64


def rendered(namespace: Namespace, release: str, **values: str) -> str:
    """The chart as manifests."""
    helm = os.environ.get("HELM") or shutil.which("helm")
    if not helm:
        skip_without(
            "helm", "helm is neither on PATH nor named by HELM: the chart cannot be rendered"
        )
    command = [helm, "template", release, str(CHART), "--namespace", namespace.name]
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return subprocess.run([*command, *settings], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def released(namespace: Namespace) -> Iterator[str]:
    """The chart, rendered and applied as the release `small`."""
    manifests = rendered(namespace, "small", replicas="1")
    namespace.apply_text(manifests)
    yield manifests
    namespace.kubectl("delete", "-f", "-", "--wait=false", given=manifests)


def test_the_chart_makes_the_same_registry(registry: Namespace, released: str) -> None:
    registry.rolled_out("small")
    pod = registry.pods("app.kubernetes.io/instance=small")[0]

    def knows() -> bool:
        return lanes_of(answers(registry, pod["name"], "small")[1]) == ["dev"]

    wait_until(knows, 20, "the lane behind the chart's Service")
    own = answers(registry, pod["name"], "small")[0]
    assert own == answers(registry, pod["name"], "lite-registry")[0]


LEASES = """
import json, sys, urllib.error, urllib.request
def ask(host, method="GET", path="", document=None, token="{token}"):
    request = urllib.request.Request(
        f"http://{{host}}:8080/v1/instances/payments{{path}}", method=method,
        headers={{"authorization": f"Bearer {{token}}", "content-type": "application/json"}},
        data=json.dumps(document).encode() if document else None)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read() or b"{{}}")
    except urllib.error.HTTPError as error:
        return error.code, {{}}
document = {{"ip": "10.9.8.7", "port": 8000, "ttl_seconds": 60}}
print(json.dumps({expression}))
"""


def test_replicas_on_one_redis_share_their_leases(registry: Namespace, redis_for_pods: str) -> None:
    token = secrets.token_urlsafe(32)
    registry.kubectl("create", "secret", "generic", "writers", f"--from-literal=tokens={token}")
    manifests = rendered(registry, "leases", store=redis_for_pods, tokenSecret="writers")
    registry.apply_text(manifests)
    try:
        registry.rolled_out("leases")
        first, second = registry.pods("app.kubernetes.io/instance=leases")

        def ask(expression: str, *, known: str = token) -> object:
            code = LEASES.format(token=known, expression=expression)
            return json.loads(registry.python(second["name"], code))

        put = f"ask('{first['ip']}', 'PUT', '/10.9.8.7:8000', document)[0]"
        assert ask(put, known="a-token-that-nobody-gave-out") in {401, 403}
        assert ask(put) in {200, 201}
        listed = "[i['ip'] for i in ask('{}')[1]['instances']]"
        assert ask(listed.format(second["ip"])) == ["10.9.8.7"]
        with from_outside(registry, f"pod/{second['name']}", 8080) as address:
            answer = httpx.get(f"{address}/v1/instances/payments", trust_env=False)
        assert [each["ip"] for each in answer.json()["instances"]] == ["10.9.8.7"]
        registry.kubectl("delete", "pod", first["name"], "--grace-period=0", "--force")
        assert ask(listed.format("leases")) == ["10.9.8.7"]
        gone = f"ask('{second['ip']}', 'DELETE', '/10.9.8.7:8000')[0]"
        assert ask(gone) in {200, 204}
        assert ask(listed.format(second["ip"])) == []
    finally:
        registry.kubectl("delete", "-f", "-", "--wait=false", given=manifests)
