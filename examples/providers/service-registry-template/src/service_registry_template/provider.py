"""The entry point: opens a service registry from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from microservice_core import InvalidValueError, refuse_unknown_settings

from .errors import PROVIDER
from .service_registry import JsonFolderServiceRegistry

__all__ = ("service_registry",)


@asynccontextmanager
async def service_registry(
    settings: Mapping[str, object],
) -> AsyncIterator[JsonFolderServiceRegistry]:
    """Open the provider `json-folder` of the port `service_registry`.

    Settings: `folder`, `ttl_seconds`, `poll_seconds`.

    Raises:
        InvalidValueError: a setting is unknown or breaks a rule; nothing was opened.
    """
    # Settings may come as JSON or TOML from the environment or a file: check each.
    refuse_unknown_settings(PROVIDER, settings, ("folder", "ttl_seconds", "poll_seconds"))
    folder = settings.get("folder")
    if not isinstance(folder, str | Path) or not str(folder):
        raise InvalidValueError("folder", folder, "the path of a folder")
    registry = JsonFolderServiceRegistry(
        folder,
        ttl_seconds=_require_number("ttl_seconds", settings.get("ttl_seconds", 15.0)),
        poll_seconds=_require_number("poll_seconds", settings.get("poll_seconds", 1.0)),
    )
    try:
        yield registry
    finally:
        await registry.close()


def _require_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(name, value, "a number above 0")
    return value
