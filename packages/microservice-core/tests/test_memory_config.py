from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from microservice_core import (
    ConfigConflictError,
    ConfigHistory,
    ConfigNotFoundError,
    ConfigPublisher,
    InMemoryConfigCenter,
    InvalidValueError,
    content_type_of,
    md5_of,
    open_config_center,
)
from microservice_core.testing import ConfigCenterContract

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class TestInMemoryConfigCenter(ConfigCenterContract):
    @pytest.fixture
    async def center(self) -> AsyncIterator[InMemoryConfigCenter]:
        center = InMemoryConfigCenter()
        yield center
        await center.close()


@pytest.fixture
def center() -> InMemoryConfigCenter:
    return InMemoryConfigCenter({"app.yaml": "a: 1"}, now=lambda: NOON)


async def test_first_documents_are_there_at_once(center: InMemoryConfigCenter) -> None:
    result = await center.get_config("app.yaml")
    assert (result.content, result.md5, result.content_type) == ("a: 1", md5_of("a: 1"), "yaml")
    assert result.last_modified == NOON


async def test_the_content_stays_out_of_the_repr(center: InMemoryConfigCenter) -> None:
    shown = repr(await center.get_config("app.yaml"))
    assert "a: 1" not in shown
    assert "app.yaml" in shown


async def test_compare_and_set_publishes_on_top_of_the_version_read(
    center: InMemoryConfigCenter,
) -> None:
    read = await center.get_config("app.yaml")
    await center.publish_config("app.yaml", "a: 2", expected_md5=read.md5)
    with pytest.raises(ConfigConflictError, match="read it again"):
        await center.publish_config("app.yaml", "a: 3", expected_md5=read.md5)
    assert (await center.get_config("app.yaml")).content == "a: 2"


async def test_compare_and_set_of_a_missing_document_conflicts(
    center: InMemoryConfigCenter,
) -> None:
    with pytest.raises(ConfigConflictError):
        await center.publish_config("other.yaml", "a: 1", expected_md5=md5_of("a: 0"))


async def test_an_earlier_version_can_be_restored(center: InMemoryConfigCenter) -> None:
    assert isinstance(center, ConfigPublisher)
    assert isinstance(center, ConfigHistory)
    await center.publish_config("app.yaml", "a: 2")
    newest, oldest = await center.config_versions("app.yaml")
    assert (newest.md5, oldest.md5) == (md5_of("a: 2"), md5_of("a: 1"))
    await center.restore_config("app.yaml", oldest.version_id)
    assert (await center.get_config("app.yaml")).content == "a: 1"
    assert len(await center.config_versions("app.yaml")) == 3


async def test_an_unknown_version_cannot_be_restored(center: InMemoryConfigCenter) -> None:
    with pytest.raises(ConfigNotFoundError, match="version 99"):
        await center.restore_config("app.yaml", "99")


async def test_versions_are_bounded_and_outlive_a_deletion(center: InMemoryConfigCenter) -> None:
    for number in range(150):
        await center.publish_config("app.yaml", f"a: {number}")
    await center.delete_config("app.yaml")
    versions = await center.config_versions("app.yaml")
    assert len(versions) == 100
    assert versions[0].md5 == md5_of("a: 149")


async def test_groups_and_namespaces_are_apart(center: InMemoryConfigCenter) -> None:
    await center.publish_config("app.yaml", "a: g", "g")
    await center.publish_config("app.yaml", "a: n", "g", "n")
    contents = [
        (await center.get_config("app.yaml", *where)).content for where in ((), ("g",), ("g", "n"))
    ]
    assert contents == ["a: 1", "a: g", "a: n"]


@pytest.mark.parametrize(
    ("data_id", "content_type"),
    [("a.yaml", "yaml"), ("a.YML", "yaml"), ("a.json", "json"), ("a", "text"), ("yaml", "yaml")],
)
def test_the_content_type_follows_the_ending(data_id: str, content_type: str) -> None:
    assert content_type_of(data_id) == content_type


async def test_the_provider_opens_by_name_with_documents() -> None:
    async with open_config_center("memory", {"documents": {"a.txt": "hello"}}) as center:
        assert (await center.get_config("a.txt")).content == "hello"


async def test_documents_have_to_be_a_mapping() -> None:
    with pytest.raises(InvalidValueError, match="documents must be a mapping"):
        async with open_config_center("memory", {"documents": ["a.txt"]}):
            pass
