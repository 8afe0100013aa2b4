import logging

import pytest

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import MicroserviceModule


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
