"""The provider as users meet it: found by name, its settings checked."""

from pathlib import Path

import pytest

from config_center_template import JsonFolderConfigCenter
from microservice_core import (
    ConfigCenterUnavailableError,
    ConfigHistory,
    ConfigPublisher,
    InvalidValueError,
    open_config_center,
)


async def test_it_opens_by_name(tmp_path: Path) -> None:
    async with open_config_center("json-folder", {"folder": str(tmp_path)}) as center:
        assert isinstance(center, JsonFolderConfigCenter)
        assert isinstance(center, ConfigPublisher)
        assert isinstance(center, ConfigHistory)
        await center.publish_config("app.yaml", "a: 1")
        assert (await center.get_config("app.yaml")).content == "a: 1"


async def test_opening_asks_nothing_of_the_engine(tmp_path: Path) -> None:
    async with open_config_center("json-folder", {"folder": str(tmp_path / "no")}) as center:
        with pytest.raises(ConfigCenterUnavailableError):
            await center.get_config("app.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "folder must be the path of a folder, not None"),
        ({"folder": "x", "poll_seconds": "1"}, "poll_seconds must be a number above 0, not '1'"),
        ({"folder": "x", "poll_seconds": True}, "poll_seconds must be a number above 0, not True"),
        ({"folder": "x", "poll_seconds": 0}, "poll_seconds must be a number above 0, not 0"),
        ({"path": "x"}, "must be one of folder, poll_seconds, not 'path'"),
    ],
)
async def test_a_wrong_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        async with open_config_center("json-folder", settings):
            pass
