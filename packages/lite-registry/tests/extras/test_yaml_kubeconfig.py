from pathlib import Path

import pytest

from lite_registry import SettingsError
from lite_registry.kubernetes.access import read_kubeconfig

CONFIG = """
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:6443"}}]
users: [{name: u, user: {token: t0}}]
"""


def test_a_kubeconfig_is_usually_yaml(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(CONFIG)
    assert read_kubeconfig(file).namespace == "shop"


@pytest.mark.parametrize(
    ("content", "told"), [("a: [", "it is no YAML: "), ("- 1", "it is no object; write one")]
)
def test_what_is_no_kubeconfig_is_said(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(SettingsError, match=told):
        read_kubeconfig(file)
