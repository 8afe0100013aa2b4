"""Lane routes from a JSON or YAML file."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from .errors import SettingsError
from .metrics import Metrics
from .published_routes import PublishedRoutes
from .routes import NO_ROUTES, RouteTable, parse_routes

__all__ = ("FileRoutes", "StaticRoutes", "read_route_file")

logger = logging.getLogger(__name__)

_MAX_FILE_BYTES = 16 * 1024 * 1024


class StaticRoutes:
    """A route table that never changes; by default an empty one."""

    def __init__(self, table: RouteTable = NO_ROUTES) -> None:
        self._table = table

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Publish the table."""
        published.publish(self._table, ages=False)

    async def run(self) -> None:
        """Return at once: there is nothing to watch."""


class FileRoutes:
    """A route file that is read again when it changes; a broken one leaves the last good table."""

    def __init__(self, path: Path, *, poll_seconds: float = 1.0) -> None:
        self._path = path
        self._poll_seconds = poll_seconds
        self._signature: tuple[int, ...] | None = None

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Read and publish the file.

        Raises:
            SettingsError: it cannot be read, or is not a route file.
        """
        self._published = published
        self._signature = self._read_signature()
        published.publish(read_route_file(self._path))

    async def run(self) -> None:
        """Check the file every `poll_seconds`, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            self._reload_if_changed(self._published)

    def _reload_if_changed(self, published: PublishedRoutes) -> None:
        signature = self._read_signature()
        if signature == self._signature:
            if not published.stale:
                published.mark_fresh()
            return
        self._signature = signature
        try:
            published.publish(read_route_file(self._path))
        except SettingsError as error:
            logger.warning("%s; keeping the last valid routes", error)
            published.mark_stale()

    def _read_signature(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def read_route_file(path: Path) -> RouteTable:
    """The table of a route file.

    Raises:
        SettingsError: it cannot be read, is not JSON or YAML, or breaks a rule of `parse_routes`.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SettingsError(f"route file {str(path)!r} is larger than {_MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"route file {str(path)!r} cannot be read: {error}") from error
    document = (
        _parse_yaml(path, text) if path.suffix in {".yaml", ".yml"} else _parse_json(path, text)
    )
    try:
        return parse_routes(document)
    except SettingsError as error:
        raise SettingsError(f"route file {str(path)!r}: {error}") from error


def _parse_json(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"route file {str(path)!r} is not JSON: {error}") from error


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
        reason = " ".join(str(error).split())
        raise SettingsError(f"route file {str(path)!r} is not YAML: {reason}") from error
