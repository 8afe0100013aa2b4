"""The fixtures that a test defines itself, where it does not."""

from collections.abc import Mapping

import pytest


def test_a_missing_definition_says_what_to_define(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.UsageError, match="define a fixture `microservice`"):
        request.getfixturevalue("microservice")


def test_the_default_is_no_document(config_documents: Mapping[str, str]) -> None:
    assert config_documents == {}
