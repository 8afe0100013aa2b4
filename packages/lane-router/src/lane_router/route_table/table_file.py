"""The last good table on disk: what a process knows that starts while the registry is down."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path

from lane_router.errors import RouteTableError

from .table import RouteTable, parse_table

__all__ = ("TableFile",)

logger = logging.getLogger(__name__)

_SCHEMA = 1
_LARGEST = 32 * 1024 * 1024


class TableFile:
    """A snapshot that several processes may share: written beside and renamed.

    Args:
        oldest_seconds: what is older is not believed.
    """

    def __init__(self, path: Path, *, oldest_seconds: float = 7 * 86_400.0) -> None:
        self._path = path
        self._oldest = oldest_seconds
        self._failed = False

    def load(self, now: float) -> tuple[RouteTable, float] | None:
        """(table, age in seconds) at that time since the epoch; None when there is nothing good."""
        try:
            if self._path.stat().st_size > _LARGEST:
                raise RouteTableError(f"larger than {_LARGEST} bytes")
            document = json.loads(self._path.read_bytes())
            table, saved_at = _opened(document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("route snapshot %s is not used: %s", self._path, error)
            return None
        age = max(0.0, now - saved_at)
        if age > self._oldest:
            logger.warning("route snapshot %s is not used: %.0f s old", self._path, age)
            return None
        return table, age

    def save(self, body: bytes, synced_at: float) -> None:
        """Keep what the registry answered, confirmed at that time since the epoch.

        A disk that refuses is reported once and harms nothing.
        """
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        head = json.dumps({"schema": _SCHEMA, "synced_at": synced_at})[:-1].encode()
        try:
            with beside.open("wb") as file:
                file.write(head + b', "routes": ' + body + b"}")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("route snapshot %s cannot be written: %s", self._path, error)
            self._failed = True
            with contextlib.suppress(OSError):
                beside.unlink()


def _opened(document: object) -> tuple[RouteTable, float]:
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
        raise RouteTableError("not a snapshot of this version")
    saved_at = document.get("synced_at")
    if not isinstance(saved_at, int | float) or isinstance(saved_at, bool):
        raise RouteTableError("it does not say when it was written")
    return parse_table(document.get("routes")), float(saved_at)
