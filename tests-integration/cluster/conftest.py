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
def outside() -> dict[str, str]:
    """Where pods find Nacos and Redis."""
    for name in ("NACOS_USERNAME", "NACOS_PASSWORD"):
        read_variable(name)
    nacos, redis = read_variable("NACOS_SERVER_ADDR"), read_variable("REDIS_URL")
    if "REFERENCE_NODE" not in os.environ or "POD_NACOS_SERVER_ADDR" in os.environ:
        return {
            "nacos": read_variable("POD_NACOS_SERVER_ADDR"),
            "redis": read_variable("POD_REDIS_URL"),
        }
    node = os.environ["REFERENCE_NODE_IP"]
    ports = [nacos.rpartition(":")[2], str(urlsplit(redis).port)]
    lead("expose", *ports)
    return {"nacos": f"{node}:{ports[0]}", "redis": f"redis://{node}:{ports[1]}"}
