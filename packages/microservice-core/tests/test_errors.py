import pickle

import pytest

import microservice_core
from microservice_core import (
    ConfigCenterError,
    ConfigNotFoundError,
    DocumentError,
    InvalidValueError,
    MicroserviceError,
    MissingDependencyError,
    NoInstanceAvailableError,
    ProviderNotFoundError,
)

EXAMPLES = [
    DocumentError("rules.yaml", "must be YAML", 7),
    InvalidValueError("port", 70000, "a number from 0 to 65535"),
    MissingDependencyError("reading YAML", "microservice-kit[yaml]"),
    ProviderNotFoundError("service_registry", "consul", ["memory", "lite"]),
    ConfigNotFoundError(
        "publish it", provider="nacos", operation="get_config", target="a.yaml", retryable=True
    ),
    NoInstanceAvailableError("orders", "none is registered"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: MicroserviceError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_every_exported_error_hangs_on_the_one_root() -> None:
    errors = [
        getattr(microservice_core, name)
        for name in microservice_core.__all__
        if name.endswith("Error")
    ]
    assert len(errors) == 17
    assert all(issubclass(error, MicroserviceError) for error in errors)


def test_a_provider_error_tells_who_could_not_do_what_to_which() -> None:
    error = ConfigNotFoundError(
        "publish it first", provider="nacos", operation="get_config", target="a.yaml"
    )
    assert isinstance(error, ConfigCenterError)
    assert str(error) == "nacos get_config 'a.yaml': publish it first"
    assert not error.retryable


def test_a_provider_error_without_a_target_reads_well() -> None:
    error = ConfigCenterError("log in again", provider="nacos", operation="login")
    assert str(error) == "nacos login: log in again"


def test_a_missing_provider_lists_what_is_there_and_what_to_install() -> None:
    error = ProviderNotFoundError("config_center", "nacos", ["memory", "file"])
    assert str(error) == (
        "no config_center provider named 'nacos' (installed: file, memory); "
        'pip install "microservice-nacos"'
    )


@pytest.mark.parametrize(("port", "name"), [("service_registry", "x"), ("config_center", "lite")])
def test_a_provider_nobody_knows_gets_no_made_up_advice(port: str, name: str) -> None:
    message = str(ProviderNotFoundError(port, name, []))
    assert "(installed: none)" in message
    assert "pip install" not in message


def test_a_missing_dependency_is_an_import_error_that_says_what_to_install() -> None:
    error = MissingDependencyError("reading YAML", "microservice-kit[yaml]")
    assert isinstance(error, ImportError)
    assert str(error).endswith('pip install "microservice-kit[yaml]"')
