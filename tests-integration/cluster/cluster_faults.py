"""Faults of a cluster and of what lies beside it: on the reference node, and on k3d."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubernetes_namespace import lead
from required_servers import servers_command, skip_without


def is_k3d() -> bool:
    """Whether the cluster is one that `make k3d` has made."""
    return "K3D_CLUSTER" in os.environ


def restart_api_server() -> None:
    """Restart the API server; on k3d the node, which is one process, and with it all pods."""
    if is_k3d():
        _run("docker", "restart", f"k3d-{os.environ['K3D_CLUSTER']}-server-0")
    else:
        _run(servers_command("kube"), "restart", "kube:apiserver")


@contextmanager
def no_way_to_nacos() -> Iterator[None]:
    """No pod reaches Nacos within the block; this machine does."""
    cut, mend = _find_way()
    cut()
    try:
        yield
    finally:
        mend()


def _find_way() -> tuple[Callable[[], None], Callable[[], None]]:
    if is_k3d():
        network, nacos = os.environ["K3D_NETWORK"], os.environ["K3D_NACOS"]

        def cut() -> None:
            # By way of the other network this machine still reaches the published port.
            _run("docker", "network", "connect", "bridge", nacos)
            _run("docker", "network", "disconnect", network, nacos)

        def mend() -> None:
            _run("docker", "network", "connect", "--alias", "nacos", network, nacos)
            _run("docker", "network", "disconnect", "bridge", nacos)

        return cut, mend
    if "REFERENCE_NODE" not in os.environ:
        skip_without(
            "node", "neither REFERENCE_NODE nor K3D_CLUSTER is set: no way to cut off Nacos"
        )
    port = os.environ["NACOS_SERVER_ADDR"].rpartition(":")[2]
    return (lambda: lead("unexpose", port)), (lambda: lead("expose", port))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
