from collections.abc import AsyncIterator

import pytest

from microservice_core.testing import ConfigCenterContract, RegistrationHandoverContract
from microservice_nacos import NacosConfigCenter, NacosServiceRegistry
from nacos_client import AsyncNacosClient


class TestNacosServiceRegistry(RegistrationHandoverContract):
    @pytest.fixture
    async def registry(self, client: AsyncNacosClient) -> AsyncIterator[NacosServiceRegistry]:
        registry = NacosServiceRegistry(client)
        yield registry
        await registry.close()


class TestNacosConfigCenter(ConfigCenterContract):
    @pytest.fixture
    async def center(self, client: AsyncNacosClient) -> AsyncIterator[NacosConfigCenter]:
        center = NacosConfigCenter(client)
        yield center
        await center.close()
