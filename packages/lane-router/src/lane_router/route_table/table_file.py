"""The last valid table on disk, for a process that starts while the registry is down."""

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
    """A snapshot file that several processes may share: written under another name, then renamed.

    Args:
        oldest_seconds: a snapshot that is older is not used.
    """

    def __init__(self, path: Path, *, oldest_seconds: float = 7 * 86_400.0) -> None:
        self._path = path
        self._oldest = oldest_seconds
        self._failed = False

    def load(self, now: float) -> tuple[RouteTable, float] | None:
        """(table, age in seconds) at `now`, seconds since 1970; None without a usable snapshot."""
        try:
            if self._path.stat().st_size > _LARGEST:
                raise RouteTableError(f"larger than {_LARGEST} bytes")
            document = json.loads(self._path.read_bytes())
            table, saved_at = _parse_snapshot(document)
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
        """Keep a response body of the registry, confirmed at `synced_at` (seconds since 1970).

        An error of the disk is logged once and otherwise ignored.
        """
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        head = json.dumps({"schema": _SCHEMA, "synced_at": synced_at})[:-1].encode()
        try:
            with temporary.open("wb") as file:
                # The body is valid JSON already, so it is embedded without encoding it again.
                file.write(head + b', "routes": ' + body + b"}")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("route snapshot %s cannot be written: %s", self._path, error)
            self._failed = True
            with contextlib.suppress(OSError):
                temporary.unlink()


def _parse_snapshot(document: object) -> tuple[RouteTable, float]:
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
        raise RouteTableError("not a snapshot of this version")
    saved_at = document.get("synced_at")
    if not isinstance(saved_at, int | float) or isinstance(saved_at, bool):
        raise RouteTableError("it has no time of writing")
    return parse_table(document.get("routes")), float(saved_at)
