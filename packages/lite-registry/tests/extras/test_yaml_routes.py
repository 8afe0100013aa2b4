from pathlib import Path

import pytest

from lite_registry import SettingsError
from lite_registry.file_source import read_route_file


def test_routes_may_be_written_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("services:\n  orders:\n    port: 8000\n    lanes: [dev]\n")
    assert sorted(read_route_file(file).routes["orders"].lanes) == ["dev"]


def test_broken_yaml_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    file.write_text("services: [\n")
    with pytest.raises(SettingsError, match="is not YAML: ") as caught:
        read_route_file(file)
    assert "\n" not in str(caught.value)
