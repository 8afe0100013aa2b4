from pathlib import Path

import pytest

from lite_registry import SettingsError
from lite_registry.kubernetes.kubeconfig import read_kubeconfig

CONFIG = """
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:6443"}}]
users: [{name: u, user: {token: t0}}]
"""
EXEC = "command: c, apiVersion: client.authentication.k8s.io/v1"


def test_a_kubeconfig_is_usually_yaml(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(CONFIG)
    assert read_kubeconfig(file).namespace == "shop"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "line 1: it must be YAML"),
        ("- 1", "it must be an object"),
        (CONFIG + "x: !!timestamp x", "line 6: it must have no tags"),
        (CONFIG.replace("contexts: [", "contexts: [1, "), "each of contexts must be an object"),
        (CONFIG.replace("clusters: [", "clusters: ["[:-1] + "7 #"), "clusters must be a list"),
        (CONFIG.replace("user: {token: t0}", "user: [1]"), "the user 'u' must be an object"),
        (CONFIG.replace("token: t0", "token: 7"), "token must be a text"),
        (CONFIG.replace("token: t0", "exec: [1]"), "exec must be an object"),
        (CONFIG.replace("token: t0", f"exec: {{{EXEC}, env: 7}}"), "env of exec must be a list"),
        (CONFIG.replace("token: t0", f"exec: {{{EXEC}, env: [7]}}"), "each of env of exec must be"),
        (CONFIG.replace("token: t0", f"exec: {{{EXEC}, args: 7}}"), "args of exec must be a list"),
        (CONFIG.replace("token: t0", "exec: {}").replace("{}", "{a: 1}"), "there is no field"),
        (
            CONFIG.replace('6443"', '6443", insecure-skip-tls-verify: no'),
            "insecure-skip-tls-verify must be true or false",
        ),
    ],
)
def test_a_file_that_is_not_a_kubeconfig_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_kubeconfig(file)
