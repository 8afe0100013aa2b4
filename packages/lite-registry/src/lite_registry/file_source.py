"""Lane routes from a JSON or YAML file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ._documents import parse_document
from .errors import SettingsError
from .metrics import Metrics
from .published_routes import PublishedRoutes
from .routes import NO_ROUTES, RouteTable, parse_routes

__all__ = ("FileRoutes", "StaticRoutes", "read_route_file")

logger = logging.getLogger(__name__)

_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_VALUES = 1_000_000


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
    name = f"route file {str(path)!r}"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error}") from error
    try:
        document = parse_document(
            content,
            document_format="yaml" if path.suffix in {".yaml", ".yml"} else "json",
            name=name,
            max_bytes=_MAX_FILE_BYTES,
            max_values=_MAX_VALUES,
        )
    except ImportError as error:
        raise SettingsError(
            f'{name} is YAML: pip install "lite-registry[yaml]", or write JSON'
        ) from error
    try:
        return parse_routes(document)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error
