import logging
from datetime import UTC, datetime

import pytest

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import MicroserviceModule
from microservice_kit.web.status_page.state import build_state


async def test_how_services_are_called_follows_the_configuration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    center = InMemoryConfigCenter({"app.json": "{}"})

    async def publish(content: str) -> None:
        await center.publish_config("app.json", content)
        await settle()

    async with MicroserviceModule(
        config_center=center, documents=["app.json"], service_registry="memory"
    ) as module:
        client = module.service_client
        await publish('{"calls": {"default": {"attempts": 1}}}')
        with caplog.at_level(logging.ERROR, logger="microservice_kit.calls.call_policies"):
            await publish('{"calls": {"default": {"attempts": 0}}}')
        assert "keeping the previous call policies" in caplog.text
        await publish("{}")
        assert client is module.service_client


async def test_a_refused_section_is_the_problem_of_the_configuration_until_it_is_corrected() -> (
    None
):
    center = InMemoryConfigCenter({"app.json": '{"calls": {"default": {"attempts": 0}}}'})
    async with MicroserviceModule(
        config_center=center, documents=["app.json"], service_registry="memory"
    ) as module:
        assert module.service_client is not None  # the policies are read when it opens
        problem = str(module.config.problem)
        assert "configuration 'calls' is invalid: default.attempts must be" in problem
        module.health.cache_seconds = 0
        result = (await module.health.check())["config"]
        assert (result.status, "default.attempts" in result.detail) == ("down", True)
        state = await build_state(module, clock_start=datetime.now(UTC))
        assert state["config"]["problem"] == problem  # type: ignore[index]
        await center.publish_config("app.json", '{"calls": {"default": {"attempts": 1}}}')
        await settle()
        assert module.config.problem is None
        assert (await module.health.check())["config"].status == "up"
