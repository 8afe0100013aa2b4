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


def test_a_kubeconfig_is_usually_yaml(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(CONFIG)
    assert read_kubeconfig(file).namespace == "shop"


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "it is not YAML: "), ("- 1", "it is not an object; write one")],
)
def test_a_file_that_is_not_a_kubeconfig_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_kubeconfig(file)
