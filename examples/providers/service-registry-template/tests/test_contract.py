"""What every service registry has to do: the whole of it comes from microservice-core."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microservice_core.testing import ServiceRegistryContract
from service_registry_template import JsonFolderServiceRegistry


class TestJsonFolder(ServiceRegistryContract):
    @pytest.fixture
    async def registry(self, tmp_path: Path) -> AsyncIterator[JsonFolderServiceRegistry]:
        registry = JsonFolderServiceRegistry(tmp_path, poll_seconds=0.01)
        yield registry
        await registry.close()
