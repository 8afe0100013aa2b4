"""The entry point: opens a configuration center from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from microservice_core import InvalidValueError, refuse_unknown_settings

from .config_center import JsonFolderConfigCenter
from .errors import PROVIDER

__all__ = ("config_center",)


@asynccontextmanager
async def config_center(settings: Mapping[str, object]) -> AsyncIterator[JsonFolderConfigCenter]:
    """Open the provider `json-folder` of the port `config_center`; settings: `folder`, `poll_seconds`.

    Raises:
        InvalidValueError: a setting is unknown or breaks a rule; nothing was opened.
    """
    # Settings may come as JSON or TOML from the environment or a file: check each.
    refuse_unknown_settings(PROVIDER, settings, ("folder", "poll_seconds"))
    folder, poll_seconds = settings.get("folder"), settings.get("poll_seconds", 1.0)
    if not isinstance(folder, str | Path) or not str(folder):
        raise InvalidValueError("folder", folder, "the path of a folder")
    if isinstance(poll_seconds, bool) or not isinstance(poll_seconds, int | float):
        raise InvalidValueError("poll_seconds", poll_seconds, "a number above 0")
    center = JsonFolderConfigCenter(folder, poll_seconds=poll_seconds)
    try:
        yield center
    finally:
        await center.close()
