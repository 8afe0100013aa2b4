import pytest

import microservice_kit


def test_every_name_in_all_is_there_and_sorted() -> None:
    assert list(microservice_kit.__all__) == sorted(microservice_kit.__all__)
    assert all(hasattr(microservice_kit, name) for name in microservice_kit.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        microservice_kit.nonsense  # noqa: B018
