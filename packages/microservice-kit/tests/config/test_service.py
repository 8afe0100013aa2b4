import logging
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel, Field, field_validator
from pydantic_settings import BaseSettings

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import ConfigService, InvalidConfigError

ADDRESSES = {"localhost": "127.0.0.1"}


class Database(BaseModel):
    pool: int = Field(default=5, ge=1)
    password: str = ""
    host: str = "localhost"

    @field_validator("host")
    @classmethod
    def address(cls, host: str) -> str:
        return ADDRESSES[host]  # a KeyError is none of the errors pydantic expects


class AppConfig(BaseModel):
    name: str = "app"
    db: Database = Database()


@pytest.fixture
def center() -> InMemoryConfigCenter:
    return InMemoryConfigCenter({"app.json": '{"db": {"pool": 7}}'})


@pytest.fixture
async def config(center: InMemoryConfigCenter) -> AsyncIterator[ConfigService[AppConfig]]:
    service = ConfigService(AppConfig, center, ["app.json"])
    await service.open()
    yield service
    await service.close()
    await service.close()


async def test_the_document_is_validated_into_the_model(config: ConfigService[AppConfig]) -> None:
    assert config.current == AppConfig(db=Database(pool=7))


async def test_a_published_document_reaches_the_readers(
    config: ConfigService[AppConfig], center: InMemoryConfigCenter
) -> None:
    pools: list[int] = []
    stop = config.on_change(lambda change: pools.append(change.current.db.pool))
    for pool in (8, 9):
        await center.publish_config("app.json", f'{{"db": {{"pool": {pool}}}}}')
        await settle()
    stop()
    await center.publish_config("app.json", '{"db": {"pool": 10}}')
    await settle()
    assert (pools, config.current.db.pool) == ([8, 9], 10)


@pytest.mark.parametrize(
    "broken",
    [
        '{"db": ',
        '{"db": {"pool": 0}}',
        '{"db": {"pool": "many"}}',
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param('{"db": {"pool": ' + "9" * 5000 + "}}", id="a number without end"),
        '{"db": {"host": "unknown"}}',
    ],
)
async def test_an_invalid_version_keeps_the_last_good_one(
    config: ConfigService[AppConfig],
    center: InMemoryConfigCenter,
    broken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = config.current
    with caplog.at_level(logging.ERROR, logger="microservice_kit.config.service"):
        await center.publish_config("app.json", broken)
        await settle()
    assert config.current is before
    assert config.problem is not None
    assert len(caplog.records) == 1
    await center.publish_config("app.json", '{"db": {"pool": 8}}')
    await settle()
    assert config.current.db.pool == 8
    assert config.problem is None


async def test_no_value_of_an_invalid_document_is_shown(
    config: ConfigService[AppConfig],
    center: InMemoryConfigCenter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        await center.publish_config("app.json", '{"db": {"password": {"secret": "hunter2"}}}')
        await settle()
    assert config.problem is not None
    assert "db.password" in str(config.problem)
    assert "hunter2" not in str(config.problem) + caplog.text


async def test_a_version_that_says_the_same_in_other_words_is_no_change(
    config: ConfigService[AppConfig], center: InMemoryConfigCenter
) -> None:
    before = config.current
    await center.publish_config("app.json", '{ "db" : { "pool" : 7 } }')
    await settle()
    assert config.current is before


async def test_a_deleted_document_counts_as_empty(
    config: ConfigService[AppConfig], center: InMemoryConfigCenter
) -> None:
    await center.delete_config("app.json")
    await settle()
    assert config.current == AppConfig()


async def test_later_documents_win() -> None:
    center = InMemoryConfigCenter(
        {"base.json": '{"name": "base", "db": {"pool": 2}}', "app.json": '{"db": {"pool": 3}}'}
    )
    config = ConfigService(AppConfig, center, ["base.json", "app.json"])
    await config.open()
    assert config.current == AppConfig(name="base", db=Database(pool=3))
    await config.close()


async def test_the_center_wins_over_the_environment_and_that_over_defaults(
    center: InMemoryConfigCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_NAME", "from-env")
    monkeypatch.setenv("APP_DB__POOL", "3")
    monkeypatch.setenv("APP_DB__PASSWORD", "from-env")
    config = ConfigService(AppConfig, center, ["app.json"])
    await config.open()
    assert config.current == AppConfig(name="from-env", db=Database(pool=7, password="from-env"))
    await config.close()


async def test_a_settings_class_works_as_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(BaseSettings):
        name: str = "default"

    monkeypatch.setenv("APP_NAME", "from-env")
    config = ConfigService(Settings)
    await config.open()
    assert type(config.current) is Settings
    assert config.current.name == "from-env"


async def test_without_a_center_the_environment_and_defaults_are_in_force() -> None:
    config = ConfigService(AppConfig)
    await config.open()
    assert config.current == AppConfig()


async def test_a_missing_document_is_warned_about_and_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    center = InMemoryConfigCenter()
    config = ConfigService(AppConfig, center, ["app.json"])
    with caplog.at_level(logging.WARNING, logger="microservice_kit.config.service"):
        await config.open()
    assert "'app.json' does not exist yet; using defaults" in caplog.text
    await center.publish_config("app.json", '{"name": "published"}')
    await settle()
    assert config.current.name == "published"
    await config.close()


async def test_a_broken_document_at_the_start_is_an_error() -> None:
    center = InMemoryConfigCenter({"app.json": '{"db": {"pool": 0}}'})
    config = ConfigService(AppConfig, center, ["app.json"])
    with pytest.raises(InvalidConfigError, match=r"'app.json' is invalid: db.pool: Input should"):
        await config.open()
