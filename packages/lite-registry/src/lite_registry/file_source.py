"""Lane routes from a JSON or YAML file."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SettingsError
from .routes import NO_ROUTES, RouteTable, parse_routes

if TYPE_CHECKING:
    from .metrics import Metrics
    from .published import PublishedRoutes

__all__ = ("FileRoutes", "StaticRoutes", "read_route_file")

logger = logging.getLogger(__name__)

LARGEST_FILE = 16 * 1024 * 1024


class StaticRoutes:
    """A table that never changes; without one, no routes."""

    def __init__(self, table: RouteTable = NO_ROUTES) -> None:
        self._table = table

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Publish the table."""
        published.publish(self._table, ages=False)

    async def run(self) -> None:
        """Nothing ever happens."""


class FileRoutes:
    """A file that is read again whenever it changes; a broken one leaves the last good table."""

    def __init__(self, path: Path, *, poll_seconds: float = 1.0) -> None:
        self._path = path
        self._poll_seconds = poll_seconds
        self._seen: tuple[int, ...] | None = None

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Read and publish the file.

        Raises:
            SettingsError: it cannot be read or is no route file.
        """
        self._published = published
        self._seen = self._signature()
        published.publish(read_route_file(self._path))

    async def run(self) -> None:
        """Look at the file every `poll_seconds` until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            self._look(self._published)

    def _look(self, published: PublishedRoutes) -> None:
        signature = self._signature()
        if signature == self._seen:
            if not published.stale:
                published.confirm()
            return
        self._seen = signature
        try:
            published.publish(read_route_file(self._path))
        except SettingsError as error:
            logger.warning("%s; the last good routes stay", error)
            published.doubt()

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def read_route_file(path: Path) -> RouteTable:
    """The table that the file describes.

    Raises:
        SettingsError: it cannot be read, is no JSON or YAML, or breaks a rule of `parse_routes`.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise SettingsError(f"route file {str(path)!r} is larger than {LARGEST_FILE} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"route file {str(path)!r} cannot be read: {error}") from error
    document = _parse_yaml(path, text) if path.suffix in {".yaml", ".yml"} else _parse(path, text)
    try:
        return parse_routes(document)
    except SettingsError as error:
        raise SettingsError(f"route file {str(path)!r}: {error}") from error


def _parse(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"route file {str(path)!r} is no JSON: {error}") from error


def _parse_yaml(path: Path, text: str) -> object:
    try:
        import yaml
    except ImportError as error:
        raise SettingsError(
            f'route file {str(path)!r} is YAML: pip install "lite-registry[yaml]", or write JSON'
        ) from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise SettingsError(f"route file {str(path)!r} is no YAML: {told}") from error
