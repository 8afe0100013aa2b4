"""The port's contract suites on a real Nacos with authentication on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from microservice_core import (
    ConfigCenter,
    ServiceRegistry,
    open_config_center,
    open_service_registry,
)
from microservice_core.testing import ConfigCenterContract, RegistrationHandoverContract

QUICK = {"config_poll_seconds": 0.3, "instance_poll_seconds": 0.3, "empty_hold_seconds": 1.0}


class TestNacosServiceRegistry(RegistrationHandoverContract):
    patience_seconds = 30.0

    @pytest.fixture
    async def registry(self, nacos_settings: dict[str, object]) -> AsyncIterator[ServiceRegistry]:
        async with open_service_registry("nacos", {**nacos_settings, **QUICK}) as registry:
            yield registry


class TestNacosConfigCenter(ConfigCenterContract):
    patience_seconds = 30.0

    @pytest.fixture
    async def center(
        self, nacos_settings: dict[str, object], data_id: str
    ) -> AsyncIterator[ConfigCenter]:
        async with open_config_center("nacos", {**nacos_settings, **QUICK}) as center:
            yield center
        async with open_config_center("nacos", nacos_settings) as cleaner:
            await self.remove(cleaner, data_id)
