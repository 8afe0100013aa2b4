"""A namespace of the tests' own in a cluster with nodes and the project's images on them.

`make k3d` prepares one; any other will do whose KUBECONFIG is set and whose nodes have the images.
"""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from kubernetes_namespace import Namespace


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"toolkit-{uuid4().hex[:8]}")
    nodes = json.loads(made.kubectl("get", "nodes", "-o", "json"))["items"]
    if not nodes:
        pytest.skip("the cluster has no node: nothing would run")
    made.kubectl("create", "namespace", made.name)
    yield made
    made.kubectl("delete", "namespace", made.name, "--wait=false")
