"""A namespace of the tests' own in a cluster with nodes and the project's images on them.

`make k3d` prepares one; any other will do whose KUBECONFIG is set and whose nodes have the images.
"""

import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from kubernetes_namespace import Namespace, lead
from required_servers import read_variable, skip_without


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"toolkit-{uuid4().hex[:8]}")
    nodes = json.loads(made.kubectl("get", "nodes", "-o", "json"))["items"]
    if not nodes:
        skip_without("node", "the cluster has no node: nothing would run")
    made.kubectl("create", "namespace", made.name)
    yield made
    made.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="session")
def nacos_for_pods() -> str:
    """Where pods find Nacos."""
    for name in ("NACOS_USERNAME", "NACOS_PASSWORD"):
        read_variable(name)
    port = read_variable("NACOS_SERVER_ADDR").rpartition(":")[2]
    return os.environ.get("POD_NACOS_SERVER_ADDR") or exposed(port, "POD_NACOS_SERVER_ADDR")


@pytest.fixture(scope="session")
def redis_for_pods() -> str:
    """Where pods find Redis."""
    port = str(urlsplit(read_variable("REDIS_URL")).port)
    return os.environ.get("POD_REDIS_URL") or f"redis://{exposed(port, 'POD_REDIS_URL')}"


def exposed(port: str, variable: str) -> str:
    """Let the reference node lead pods to a port of this machine; without one, the variable is wanted."""
    if "REFERENCE_NODE" not in os.environ:
        read_variable(variable)
    lead("expose", port)
    return f"{os.environ['REFERENCE_NODE_IP']}:{port}"
