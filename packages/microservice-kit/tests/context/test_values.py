import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import (
    ConfigCenterValue,
    InvalidConfigError,
    MicroserviceModule,
    NacosValue,
    NotEnabledError,
    OpenModule,
    config_center_source,
    config_properties,
    current_module,
)
from microservice_kit.context.values import declared_documents
from microservice_kit.module import AnyConfig


class Repository:
    pool_size = ConfigCenterValue("app.json", "db.pool", default=5, type=int)
    required = ConfigCenterValue("app.json", "db.host", type=str)
    elsewhere = ConfigCenterValue("other.json", "flag", default=False)
    in_group = NacosValue("app.json", "db.pool", group="special", default=0)


@pytest.fixture
def center() -> InMemoryConfigCenter:
    return InMemoryConfigCenter(
        {"app.json": '{"db": {"pool": "7", "host": "${h:here}"}}', "other.json": '{"flag": true}'}
    )


@pytest.fixture
async def module(center: InMemoryConfigCenter) -> AsyncIterator[OpenModule[AnyConfig]]:
    async with MicroserviceModule(config_center=center, documents=["app.json"]) as module:
        yield module


async def publish(center: InMemoryConfigCenter, content: str, data_id: str = "app.json") -> None:
    await center.publish_config(data_id, content)
    await settle()


async def test_a_value_is_read_live_by_every_instance(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter
) -> None:
    first, second = Repository(), Repository()
    assert (first.pool_size, first.required) == (7, "here")
    await publish(center, '{"db": {"pool": 8}}')
    assert (first.pool_size, second.pool_size) == (8, 8)
    module.config.rollback(1)
    assert second.pool_size == 7


async def test_a_document_that_is_none_of_the_module_s_is_followed_too(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter
) -> None:
    assert Repository().elsewhere is True
    await publish(center, '{"flag": false}', "other.json")
    assert Repository().elsewhere is False
    await publish(center, "{", "other.json")
    assert Repository().elsewhere is False
    assert module.config.problem is not None
    await publish(center, '{"flag": 1}', "other.json")
    assert module.config.problem is None


async def test_group_and_namespace_may_differ(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter
) -> None:
    assert Repository().in_group == 0
    await center.publish_config("app.json", '{"db": {"pool": 3}}', "special")
    await settle()
    assert Repository().in_group == 3


async def test_a_value_that_does_not_fit_is_told_and_the_last_one_stays(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter, caplog: pytest.LogCaptureFixture
) -> None:
    assert Repository().pool_size == 7
    with caplog.at_level(logging.ERROR, logger="microservice_kit.context.values"):
        await publish(center, '{"db": {"pool": "many"}}')
    assert Repository().pool_size == 7
    assert "db.pool: Input should be a valid integer" in caplog.text
    assert "many" not in caplog.text


async def test_a_value_without_a_default_that_is_missing_is_an_error_that_names_it(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter
) -> None:
    await publish(center, "{}")
    assert Repository().pool_size == 5
    with pytest.raises(InvalidConfigError, match=r"it has no key 'db.host' and the attribute no"):
        Repository().required  # noqa: B018


def test_without_a_module_the_default_holds_or_there_is_an_error() -> None:
    assert Repository().pool_size == 5
    with pytest.raises(NotEnabledError, match="open a MicroserviceModule first"):
        Repository().required  # noqa: B018


async def test_with_several_modules_the_one_of_this_context_counts() -> None:
    pools: dict[int, int] = {}

    async def live(pool: int, ready: asyncio.Barrier) -> None:
        center = InMemoryConfigCenter({"app.json": f'{{"db": {{"pool": {pool}}}}}'})
        async with MicroserviceModule(config_center=center, documents=["app.json"]):
            await ready.wait()
            pools[pool] = Repository().pool_size
            await ready.wait()

    ready = asyncio.Barrier(3)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live(1, ready))
        tasks.create_task(live(2, ready))
        await ready.wait()
        with pytest.raises(NotEnabledError, match="several are open"):
            current_module()
        assert Repository().pool_size == 5
        await ready.wait()
    assert pools == {1: 1, 2: 2}


async def test_a_module_closed_in_this_context_is_not_the_current_one_any_more() -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(MicroserviceModule(documents=["app.json"]))
        current_module()
    with pytest.raises(NotEnabledError):
        current_module()


async def test_a_value_that_is_forgotten_costs_nothing() -> None:
    ConfigCenterValue("forgotten.json", "key", default=1)
    gc.collect()
    assert "forgotten.json" not in {document_id.data_id for document_id in declared_documents()}


async def test_a_value_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Repository().pool_size = 3


@config_properties(prefix="db")
class Database(BaseModel):
    pool: int = Field(default=5, ge=1)


async def test_properties_are_a_part_of_the_configuration_of_now(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter, caplog: pytest.LogCaptureFixture
) -> None:
    config = module.config
    assert config.properties(Database).pool == 7
    assert config.properties(Database) is config.properties(Database)
    await publish(center, '{"db": {"pool": 9}}')
    assert config.properties(Database).pool == 9
    with caplog.at_level(logging.ERROR, logger="microservice_kit.config.reader"):
        await publish(center, '{"db": {"pool": 0}}')
        assert config.properties(Database).pool == 9
    assert "keeping the last valid Database" in caplog.text
    await publish(center, "{}")
    assert config.properties(Database).pool == 5


async def test_properties_that_never_fitted_are_an_error(
    module: OpenModule[AnyConfig], center: InMemoryConfigCenter
) -> None:
    await publish(center, '{"db": {"pool": -1}}')
    with pytest.raises(InvalidConfigError, match="'db' is invalid: pool"):
        module.config.properties(Database)


@config_center_source("app.json", prefix="db")
class Existing(BaseSettings):
    pool: int = 5
    host: str = "localhost"


@config_center_source()
class Merged(BaseSettings):
    title: str = ""


async def test_an_existing_settings_class_gains_the_center_by_one_line(
    module: OpenModule[AnyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL", "6")
    assert Existing().pool == 7
    assert Existing(pool=9).pool == 9
    assert Existing().host == "here"
    assert Merged().title == ""


def test_without_a_module_the_settings_class_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL", "6")
    assert (Existing().pool, Existing().host) == (6, "localhost")
