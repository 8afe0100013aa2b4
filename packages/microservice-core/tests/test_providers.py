import pytest

from microservice_core import ProviderNotFoundError, find_provider, open_service_registry
from microservice_core.providers import Port


@pytest.mark.parametrize(
    ("port", "name"),
    [("service_registry", "memory"), ("config_center", "memory"), ("config_center", "file")],
)
def test_the_providers_of_this_package_are_found_and_resolve(port: Port, name: str) -> None:
    assert callable(find_provider(port, name).load())


def test_an_unknown_name_lists_what_is_installed() -> None:
    with pytest.raises(ProviderNotFoundError) as caught:
        find_provider("service_registry", "consul")
    assert "memory" in caught.value.installed
    assert "'consul'" in str(caught.value)


async def test_opening_an_unknown_provider_fails_before_anything_is_opened() -> None:
    with pytest.raises(ProviderNotFoundError):
        async with open_service_registry("consul"):
            pytest.fail("nothing should have been opened")
