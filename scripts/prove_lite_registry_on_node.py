"""Run the image as the Deployment of the manifests, on the cluster that kubectl talks to now.

    python scripts/prove_lite_registry_on_node.py KUBECTL

Needs the image `lite-registry:0.1.0` on the node (see the Dockerfile). Applies the manifests in a
namespace of its own, adds a service with a lane, asks for the routes, replaces a pod, ends cleanly.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

MANIFESTS = Path(__file__).parent.parent / "packages/lite-registry/deploy/kustomize"
NAMESPACE = "lite-registry-proof"
SERVICES = """
{apiVersion: v1, kind: Service, metadata: {name: orders, labels: {app: orders}},
 spec: {ports: [{port: 8000}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: orders-dev, labels: {app: orders, lane: dev}},
 spec: {ports: [{port: 8000}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{port: 8000}],
 metadata: {name: orders-dev, labels: {kubernetes.io/service-name: orders-dev}},
 endpoints: [{addresses: [10.42.0.250]}]}
"""


class Cluster:
    """kubectl in the namespace of the proof."""

    def __init__(self, kubectl: str) -> None:
        self.program = kubectl

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        command = [self.program, "-n", NAMESPACE, *arguments]
        answer = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if answer.returncode:
            sys.exit(f"{' '.join(arguments)}: {answer.stderr}")
        return answer.stdout

    def routes(self) -> dict[str, object]:
        """What the Service says from inside a pod."""
        code = "import urllib.request as u; print(u.urlopen('http://lite-registry:8080/v1/routes').read().decode())"
        routes: dict[str, object] = json.loads(
            self("exec", "deploy/lite-registry", "--", "python", "-c", code)
        )
        return routes


def main(kubectl: str) -> None:
    """Prove it, step by step."""
    cluster = Cluster(kubectl)
    subprocess.run([kubectl, "create", "namespace", NAMESPACE], check=True, capture_output=True)
    try:
        rendered = cluster("kustomize", str(MANIFESTS))
        began = time.monotonic()
        cluster("apply", "-f", "-", given=rendered)
        cluster("apply", "-f", "-", given=SERVICES)
        cluster("rollout", "status", "deployment/lite-registry", "--timeout=90s")
        while "dev" not in str(cluster.routes()):
            time.sleep(0.2)
        print(f"two replicas answer with the lane {time.monotonic() - began:.1f} s after apply")
        pod = cluster("get", "pods", "-o", "name").split()[0]
        began = time.monotonic()
        cluster("delete", pod)
        cluster("rollout", "status", "deployment/lite-registry", "--timeout=90s")
        print(f"a deleted pod is replaced after {time.monotonic() - began:.1f} s")
    finally:
        subprocess.run([kubectl, "delete", "namespace", NAMESPACE, "--wait=false"], check=False)


if __name__ == "__main__":
    main(sys.argv[1])
