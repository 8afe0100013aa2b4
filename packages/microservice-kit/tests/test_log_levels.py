"""`logging.level` of the configuration, live, and given back."""

import json
import logging
from collections.abc import Iterator
from uuid import uuid4

import pytest

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import MicroserviceModule


@pytest.fixture
def name() -> str:
    return f"shop.{uuid4().hex}"


@pytest.fixture(autouse=True)
def _root_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    assert logging.getLogger().level == level


def level_of(name: str) -> int:
    return logging.getLogger(name).level


async def publish(center: InMemoryConfigCenter, content: str) -> None:
    await center.publish_config("app.json", content)
    await settle()


async def test_levels_follow_the_configuration_and_are_given_back(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)
    center = InMemoryConfigCenter({"app.json": "{}"})
    async with MicroserviceModule(config_center=center, documents=["app.json"]):
        await publish(center, f'{{"logging": {{"level": {{"{name}": "debug"}}}}}}')
        assert level_of(name) == logging.DEBUG
        await publish(center, f'{{"logging": {{"level": {{"{name}": "WARN", "x": "INFO"}}}}}}')
        assert level_of(name) == logging.WARNING
        await publish(center, "{}")
        assert level_of(name) == logging.ERROR
        await publish(center, f'{{"logging.level.{name}": "OFF"}}')
        assert level_of(name) > logging.CRITICAL
    assert level_of(name) == logging.ERROR


async def test_nested_names_and_the_root_logger(name: str) -> None:
    parent, child = name.split(".")
    content = f'{{"logging": {{"level": {{"root": "ERROR", "{parent}": {{"{child}": false}}}}}}}}'
    center = InMemoryConfigCenter({"app.json": content})
    async with MicroserviceModule(config_center=center, documents=["app.json"]):
        assert logging.getLogger().level == logging.ERROR
        assert level_of(name) > logging.CRITICAL
    assert level_of(name) == logging.NOTSET


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ('{"a": "LOUD", "b": "DEBUG"}', "a must be one of TRACE, DEBUG"),
        ('"DEBUG"', "it must be one of"),
        (json.dumps({f"l{number}": "INFO" for number in range(501)}), "more than 500"),
    ],
    ids=["word", "no mapping", "many"],
)
async def test_invalid_levels_change_nothing_and_are_the_problem_of_the_configuration(
    level: str, said: str, name: str
) -> None:
    center = InMemoryConfigCenter({"app.json": f'{{"logging": {{"level": {{"{name}": "INFO"}}}}}}'})
    async with MicroserviceModule(config_center=center, documents=["app.json"]) as module:
        await publish(center, f'{{"logging": {{"level": {level}}}}}')
        assert said in str(module.config.problem)
        assert level_of(name) == logging.INFO
        assert level_of("b") == logging.NOTSET
        await publish(center, '{"logging": {"file": "x"}}')
        assert module.config.problem is None
        assert level_of(name) == logging.NOTSET
