"""kubectl in one namespace, and waiting for what a cluster does in its own time."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from required_servers import read_variable

ROOT = Path(__file__).resolve().parents[2]


class Namespace:
    """kubectl in one namespace."""

    def __init__(self, name: str) -> None:
        read_variable("KUBECONFIG")
        assets = os.environ.get("KUBEBUILDER_ASSETS", "")
        self.program = f"{assets}/kubectl" if assets else "kubectl"
        self.name = name

    def kubectl(self, *arguments: str, given: object = None, timeout: float = 120.0) -> str:
        answer = self.run(*arguments, given=given, timeout=timeout)
        assert answer.returncode == 0, f"kubectl {' '.join(arguments)}: {answer.stderr}"
        return answer.stdout

    def run(
        self, *arguments: str, given: object = None, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        text = given if isinstance(given, str) or given is None else json.dumps(given)
        return subprocess.run(
            [self.program, "--namespace", self.name, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def apply(self, *items: object) -> None:
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})

    def apply_text(self, manifests: str) -> None:
        self.kubectl("apply", "-f", "-", given=manifests)

    def rolled_out(self, deployment: str, seconds: int = 90) -> None:
        waited = self.run("rollout", "status", f"deployment/{deployment}", f"--timeout={seconds}s")
        assert waited.returncode == 0, f"{waited.stderr}pods that wait: {self.waiting_reasons()}"

    def waiting_reasons(self) -> list[str]:
        """Why pods do not run, such as `orders-7d9f: ErrImagePull`."""
        listed = json.loads(self.kubectl("get", "pods", "-o", "json"))
        reasons = []
        for pod in listed["items"]:
            status = pod["status"]
            for container in status.get("containerStatuses", []):
                if waiting := container["state"].get("waiting"):
                    text = f"{waiting.get('reason')} {waiting.get('message', '')}".strip()
                    reasons.append(f"{pod['metadata']['name']}: {text}")
            reasons += [
                f"{pod['metadata']['name']}: {condition.get('message')}"
                for condition in status.get("conditions", [])
                if condition["type"] == "PodScheduled" and condition["status"] == "False"
            ]
        return reasons

    def pods(self, selector: str) -> list[dict[str, str]]:
        """Name, address and node state of the pods that run and are not about to end."""
        listed = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))
        return [
            {"name": pod["metadata"]["name"], "ip": pod["status"]["podIP"]}
            for pod in listed["items"]
            if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]
        ]

    def run_python(self, pod: str, image: str, code: str, *arguments: str) -> None:
        """Start a pod that runs this program once."""
        once = ["--image-pull-policy=IfNotPresent", "--restart=Never", "--command"]
        self.kubectl("run", pod, f"--image={image}", *once, "--", "python", "-c", code, *arguments)

    def python(self, pod: str, code: str) -> str:
        """What this program prints inside the pod."""
        return self.kubectl("exec", pod, "--", "python", "-c", code)


def lead(*arguments: str) -> None:
    """Tell the reference node to lead, or not to lead, a port of this machine to the pods."""
    subprocess.run(
        [os.environ["REFERENCE_NODE"], *arguments], check=True, capture_output=True, text=True
    )


@contextmanager
def from_outside(namespace: Namespace, target: str, port: int = 8000) -> Iterator[str]:
    """The address at which this machine reaches a pod or `service/NAME`."""
    command = [namespace.program, "--namespace", namespace.name, "port-forward", target, f":{port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as forward:
        assert forward.stdout is not None
        said = forward.stdout.readline()
        found = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", said)
        assert found, said
        try:
            yield f"http://{found[1]}"
        finally:
            forward.terminate()


@contextmanager
def through_api_server(namespace: Namespace) -> Iterator[str]:
    """Where this machine reaches the namespace's `/pods/NAME:PORT/proxy`, and `/services/…` alike.

    A pod of the Service is chosen anew for each request, which `from_outside` does not do.
    """
    with subprocess.Popen(
        [namespace.program, "proxy", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # each question to a pod that is gone
        text=True,
    ) as proxy:
        assert proxy.stdout is not None
        address = proxy.stdout.readline().rpartition(" ")[2].strip()
        try:
            yield f"http://{address}/api/v1/namespaces/{namespace.name}"
        finally:
            proxy.terminate()


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, *, every_seconds: float = 0.1
) -> None:
    """Wait until the condition holds; one that fails does not hold yet.

    A pod that asks a new Service is refused until kube-proxy knows it, which takes a second.
    """
    deadline = time.monotonic() + seconds
    while True:
        problem = ""
        try:
            if condition():
                return
        except AssertionError as error:
            problem = f" ({error})"
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}{problem}"
        time.sleep(every_seconds)
