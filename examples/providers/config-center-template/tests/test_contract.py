"""What every configuration center has to do: the whole of it comes from microservice-core."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_center_template import JsonFolderConfigCenter
from microservice_core.testing import ConfigCenterContract


class TestJsonFolder(ConfigCenterContract):
    @pytest.fixture
    async def center(self, tmp_path: Path) -> AsyncIterator[JsonFolderConfigCenter]:
        center = JsonFolderConfigCenter(tmp_path, poll_seconds=0.01)
        yield center
        await center.close()
