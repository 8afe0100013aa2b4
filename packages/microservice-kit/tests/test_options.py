import pytest

from microservice_core import InMemoryServiceRegistry, InvalidValueError
from microservice_kit import Microservice, MicroserviceModule, MicroserviceSettings
from microservice_kit.options import ModuleOptions

CODE_OPTIONS = {
    "settings_file",
    "lanes",
    "policies",
    "default_policy",
    "fallbacks",
    "interceptors",
    "transport",
    "register",
    "config_keys",
}


def test_every_setting_is_an_option_that_editors_know() -> None:
    options = set(ModuleOptions.__annotations__)
    assert options == {*MicroserviceSettings.model_fields, *CODE_OPTIONS}


@pytest.mark.parametrize("kind", [MicroserviceModule, Microservice])
def test_a_misspelt_option_is_refused(kind: type[MicroserviceModule]) -> None:
    with pytest.raises(InvalidValueError, match="polices"):
        kind(polices={})  # type: ignore[call-arg] # what a program without a type checker does


@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [("service_nme", "service_name"), ("prot", "port"), ("telemetri", "telemetry")],
)
def test_a_misspelt_option_is_answered_with_the_nearest(misspelt: str, nearest: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"{misspelt} must .*did you mean '{nearest}'"):
        Microservice(**{misspelt: 1})  # type: ignore[arg-type]


def test_an_option_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(InvalidValueError, match=r"qqqq must be valid \(there is no such setting\)"):
        Microservice(qqqq=1)  # type: ignore[call-arg]


def test_a_registry_that_is_an_object_is_no_setting() -> None:
    module = MicroserviceModule(service_registry=InMemoryServiceRegistry(), lane="dev")
    assert (module.settings.service_registry, module.settings.lane) == ("", "dev")
