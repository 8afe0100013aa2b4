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


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"toolkit-{uuid4().hex[:8]}")
    nodes = json.loads(made.kubectl("get", "nodes", "-o", "json"))["items"]
    if not nodes:
        pytest.skip("the cluster has no node: nothing would run")
    made.kubectl("create", "namespace", made.name)
    yield made
    made.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="session")
def outside() -> dict[str, str]:
    """Where pods find Nacos and Redis."""
    for name in ("NACOS_SERVER_ADDR", "NACOS_USERNAME", "NACOS_PASSWORD", "REDIS_URL"):
        if name not in os.environ:
            pytest.skip(f"{name} is not set: no server beside the cluster")
    nacos, redis = os.environ["NACOS_SERVER_ADDR"], os.environ["REDIS_URL"]
    if "POD_NACOS_SERVER_ADDR" in os.environ:
        return {"nacos": os.environ["POD_NACOS_SERVER_ADDR"], "redis": os.environ["POD_REDIS_URL"]}
    if "REFERENCE_NODE" not in os.environ:
        pytest.skip("POD_NACOS_SERVER_ADDR is not set: pods would not find Nacos")
    node = os.environ["REFERENCE_NODE_IP"]
    ports = [nacos.rpartition(":")[2], str(urlsplit(redis).port)]
    lead("expose", *ports)
    return {"nacos": f"{node}:{ports[0]}", "redis": f"redis://{node}:{ports[1]}"}
