import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from microservice_core import (
    ConfigConflictError,
    InMemoryConfigCenter,
    InvalidValueError,
)
from microservice_core.testing.clock import settle
from microservice_kit import ConfigChange, ConfigRestoreError, ConfigService, InvalidConfigError
from microservice_kit.config.secrets import MASK, find_secret_keys
from microservice_kit.config.versions import compare


class Database(BaseModel):
    pool: int = Field(default=5, ge=1)
    dsn: SecretStr = SecretStr("")


class Settings(BaseModel):
    name: str = "app"
    db: Database = Database()
    replicas: list[Database] = []


@pytest.fixture
def center() -> InMemoryConfigCenter:
    return InMemoryConfigCenter({"a.json": '{"db": {"pool": 1}}', "b.json": '{"name": "b"}'})


@pytest.fixture
async def config(center: InMemoryConfigCenter) -> AsyncIterator[ConfigService[Settings]]:
    service = ConfigService(Settings, center, ["a.json", "b.json"], keep_versions=3)
    await service.open()
    yield service
    await service.close()


async def publish(center: InMemoryConfigCenter, pool: int, name: str = "a.json") -> None:
    await center.publish_config(name, f'{{"db": {{"pool": {pool}}}}}')
    await settle()


async def test_a_version_says_where_it_came_from(config: ConfigService[Settings]) -> None:
    version = config.version
    assert (version.id, version.origin) == (1, "center")
    assert set(version.sources) == {"a.json", "b.json"}
    assert all(len(md5) == 32 for md5 in (version.md5, *version.sources.values()))
    assert version.time.tzinfo is not None
    assert version.model is config.current


async def test_versions_count_up_and_only_some_are_kept(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    for pool in (2, 3, 4):
        await publish(center, pool)
    assert [version.id for version in config.versions] == [4, 3, 2]
    with pytest.raises(InvalidValueError, match="one that is kept: 2, 3, 4"):
        config.rollback(1)


async def test_the_versions_that_were_read_stay_as_they_were(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    versions = config.versions  # perhaps walked in another thread while a new version comes
    await publish(center, 2)
    assert [version.id for version in versions] == [1]
    assert [version.id for version in config.versions] == [2, 1]


async def test_the_difference_of_two_versions_names_keys_and_masks_secrets(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await center.publish_config("a.json", '{"db": {"pool": 1, "dsn": "p"}, "api_key": "k"}')
    await center.publish_config("b.json", '{"name": "c"}')
    await settle()
    changes = {
        (change.key, change.kind, change.old, change.new)
        for change in config.diff(1, config.version.id)
    }
    assert changes == {
        ("db.dsn", "added", None, MASK),
        ("api_key", "added", None, MASK),
        ("name", "changed", "b", "c"),
    }


async def test_a_value_made_of_a_secret_by_a_placeholder_is_masked_too(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    document = {
        "db": {"pool": 1, "dsn": "hunter2"},
        "login": {"password": "hunter2"},
        "url": "postgres://app:${login.password}@db",
        "again": ["see ${url}"],
        "copy": "${db}",
        "other": "${nowhere:${db.dsn}}",
        "plain": "${db.pool} of ${name}, $${login.password}",
    }
    await center.publish_config("a.json", json.dumps(document))
    await settle()
    changes = {change.key: change.new for change in config.diff(1, config.version.id)}
    assert changes.pop("plain") == "1 of b, ${login.password}"
    assert changes == {
        "again": MASK,
        "copy.dsn": MASK,
        "copy.pool": MASK,
        "db.dsn": MASK,
        "login.password": MASK,
        "other": MASK,
        "url": MASK,
    }
    await center.publish_config("a.json", '{"url": "plain"}')
    await settle()
    assert {change.old for change in config.diff(2, 3)} == {MASK, 1, "1 of b, ${login.password}"}


async def test_a_listener_hears_which_keys_changed_since_it_last_heard(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    received: list[ConfigChange[Settings]] = []
    stop = config.on_change(received.append)
    await publish(center, 2)
    await publish(center, 2, "b.json")  # the name falls back to the default
    stop()
    await publish(center, 9)
    assert [sorted(change.keys) for change in received] == [["db.pool"], ["name"]]
    assert (received[0].keys["db.pool"].old, received[0].keys["db.pool"].new) == (1, 2)
    assert received[1].current.name == "app"


async def test_a_rollback_pins_until_it_is_ended(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await publish(center, 2)
    restored = config.rollback(1)
    assert (config.current.db.pool, restored.origin, config.pinned) == (1, "rollback", 1)
    await publish(center, 3)
    assert config.current.db.pool == 1
    config.resume()
    assert (config.current.db.pool, config.pinned) == (3, None)
    assert config.resume() is config.version


async def test_a_rollback_restores_documents_too(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await center.publish_config("b.json", '{"name": "c"}')
    await settle()
    assert config.text("b.json") == '{"name": "c"}'
    config.rollback(1)
    assert config.text("b.json") == '{"name": "b"}'
    assert config.get("name") == "b"


async def test_publishing_back_gives_everyone_the_earlier_version(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await publish(center, 2)
    await center.delete_config("b.json")
    await settle()
    await config.publish_back(config.rollback(1).id)
    await settle()
    assert (await center.get_config("a.json")).content == '{"db": {"pool": 1}}'
    assert (await center.get_config("b.json")).content == '{"name": "b"}'
    assert (config.pinned, config.current.name) == (None, "b")


async def test_publishing_back_deletes_what_did_not_exist_then(
    center: InMemoryConfigCenter,
) -> None:
    config = ConfigService(Settings, center, ["a.json", "new.json"])
    await config.open()
    await publish(center, 7, "new.json")
    await config.publish_back(1)
    await settle()
    assert config.current.db.pool == 1
    assert config.version.sources["new.json"] == ""
    await config.close()


async def test_publishing_back_over_somebody_else_s_version_is_refused(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await publish(center, 2)
    await center.publish_config("a.json", '{"db": {"pool": 3}}')  # not heard of here yet
    with pytest.raises(ConfigConflictError):
        await config.publish_back(1)


async def test_publishing_back_without_a_center_says_what_can_be_done() -> None:
    config = ConfigService(Settings)
    await config.open()
    with pytest.raises(ConfigRestoreError, match="roll back here only"):
        await config.publish_back(1)
    await config.close()


async def test_two_documents_that_only_make_sense_together_go_in_together(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await center.publish_config("a.json", '{"db": {"pool": "${size}"}}')
    await settle()
    assert config.problem is not None
    await center.publish_config("b.json", '{"size": 8}')
    await settle()
    assert config.problem is None
    assert config.current.db.pool == 8


async def test_a_state_that_waited_is_forgotten_when_a_newer_one_cannot_even_be_read(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await center.publish_config("a.json", '{"db": {"pool": "${size}"}}')
    await settle()
    await center.publish_config("a.json", "[")
    await settle()
    await center.publish_config("b.json", '{"size": 8}')
    await settle()
    assert config.current.db.pool == 1
    assert config.problem is not None


async def test_a_broken_document_does_not_hold_up_the_other_one(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await publish(center, 0)
    await center.publish_config("b.json", '{"name": "c"}')
    await settle()
    assert (config.current.name, config.current.db.pool) == ("c", 1)
    assert config.problem is not None
    await center.publish_config("b.json", '{"name": "d"}')
    await settle()
    assert (config.current.name, config.current.db.pool) == ("d", 1)
    config.rollback(1)
    assert config.resume().model.name == "d"
    await publish(center, 4)
    assert config.problem is None
    assert config.current.db.pool == 4


async def test_plain_reads_convert_to_the_type_of_the_default(
    config: ConfigService[Settings], center: InMemoryConfigCenter
) -> None:
    await center.publish_config("a.json", '{"db": {"pool": "12"}, "n": null, "bad": "x"}')
    await settle()
    assert config.get("db.pool", 5) == 12
    assert config.get("db.pool") == "12"
    assert config.get("missing", 5) == 5
    assert config.get("db.pool", None) == "12"  # None gives no type: nothing is validated
    assert config.get("n", None) is None
    with pytest.raises(InvalidConfigError, match="there is no key 'missing'"):
        config.get("missing")
    with pytest.raises(InvalidConfigError, match="bad"):
        config.get("bad", 1)


async def test_text_of_a_document_that_is_not_there_is_named(
    config: ConfigService[Settings],
) -> None:
    with pytest.raises(InvalidConfigError, match=r"'c.txt' is invalid: it does not exist"):
        config.text("c.txt")


def test_at_least_one_version_is_kept() -> None:
    with pytest.raises(InvalidValueError, match="keep_versions must be at least 1"):
        ConfigService(Settings, keep_versions=0)


class Node(BaseModel):
    token: SecretStr = SecretStr("")
    children: "list[Node]" = []


def test_secret_fields_are_found_in_nested_and_recursive_models() -> None:
    assert find_secret_keys(Settings) == {"db.dsn", "replicas.dsn"}
    assert find_secret_keys(Node) == {"token"}


leaf = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)
tree = st.recursive(
    leaf,
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
)
trees = st.dictionaries(st.text("abc", min_size=1, max_size=2), tree, max_size=4)


@given(trees)
def test_nothing_differs_from_itself(data: dict[str, object]) -> None:
    assert compare(data, data) == ()


@given(trees, trees)
def test_a_difference_turned_round_is_the_same_difference(
    old: dict[str, object], new: dict[str, object]
) -> None:
    forth = {(change.key, repr(change.old), repr(change.new)) for change in compare(old, new)}
    back = {(change.key, repr(change.new), repr(change.old)) for change in compare(new, old)}
    assert forth == back
    assert bool(forth) == (_shape(old) != _shape(new))


def _shape(data: object) -> object:
    if isinstance(data, dict):
        return {key: _shape(value) for key, value in data.items()}
    return (type(data), repr(data))


def test_what_sounds_like_a_secret_is_masked_inside_lists_as_well() -> None:
    (change,) = compare({"users": []}, {"users": [{"name": "a", "password": "p"}]})
    assert change.new == [{"name": "a", "password": MASK}]
