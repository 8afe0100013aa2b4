from pathlib import Path

import pytest

from microservice_core import InvalidValueError
from microservice_kit import InvalidConfigError
from microservice_kit.settings import read_settings


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.toml", 'service_name = "orders"\nport = 1\n[config_center_settings]\na = 1'),
        ("s.json", '{"service_name": "orders", "port": 1, "config_center_settings": {"a": 1}}'),
    ],
)
def test_a_file_is_below_the_environment_and_that_below_arguments(
    name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    file.write_text(content)
    monkeypatch.setenv("MICROSERVICE_PORT", "2")
    monkeypatch.setenv("MICROSERVICE_VERSION", "e")
    settings = read_settings({"settings_file": file, "version": "k"})
    assert (settings.service_name, settings.port, settings.version) == ("orders", 2, "k")
    monkeypatch.setenv("MICROSERVICE_CONFIG_CENTER_SETTINGS__B", "x")
    settings = read_settings({"settings_file": file})
    assert settings.config_center_settings == {"a": 1, "b": "x"}


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"zone": "a"}')
    monkeypatch.setenv("MICROSERVICE_SETTINGS_FILE", str(file))
    assert read_settings({}).zone == "a"


def test_a_file_that_is_not_there_or_no_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="settings_file must be a readable file"):
        read_settings({"settings_file": tmp_path / "none.toml"})
    (tmp_path / "broken.toml").write_text("= 1")
    with pytest.raises(InvalidConfigError, match="broken"):
        read_settings({"settings_file": tmp_path / "broken.toml"})


def test_a_wrong_field_of_the_file_is_named_with_its_rule(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("port = 0")
    with pytest.raises(InvalidValueError, match="port must be valid"):
        read_settings({"settings_file": tmp_path / "s.toml"})


def test_the_token_is_never_shown() -> None:
    settings = read_settings({"management_token": "hunter2"})
    assert "hunter2" not in repr(settings)


def test_an_unknown_field_of_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("service_nam = 'orders'")
    with pytest.raises(
        InvalidValueError, match=r"service_nam must be .*did you mean 'service_name'"
    ):
        read_settings({"settings_file": tmp_path / "s.toml"})


def test_a_misspelt_variable_of_the_environment_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICROSERVICE_CONFIG_CENTRE", "nacos")
    monkeypatch.setenv("MICROSERVICE_CONFIG_KEY_OLD", "x")
    monkeypatch.setenv("MICROSERVICE_METADATA__TEAM", "x")
    for _ in range(2):
        read_settings({})
    (record,) = caplog.records
    assert record.getMessage() == (
        "environment variable MICROSERVICE_CONFIG_CENTRE is not read; "
        "did you mean MICROSERVICE_CONFIG_CENTER?"
    )
