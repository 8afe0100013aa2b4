"""What is served, on disk: so that a restart during an outage has something to show.

One JSON file, replaced as a whole. It is read at the start only, and believed only when complete,
of a known schema and not too old.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

from .response import json_bytes

__all__ = ("SnapshotFile",)

logger = logging.getLogger(__name__)

SCHEMA = 1
LARGEST_FILE = 256 * 1024 * 1024


class SnapshotFile:
    """A file that keeps sections of JSON.

    Args:
        age_cap_seconds: an older one is not believed.
        every_seconds: how often it is written at most.
    """

    def __init__(
        self,
        path: Path,
        *,
        age_cap_seconds: float = 24 * 3600.0,
        every_seconds: float = 1.0,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._age_cap = age_cap_seconds
        self._every = every_seconds
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._on_failure = on_failure
        self._failing = False

    def load(self) -> dict[str, object]:
        """The sections written last; empty when there is nothing to believe."""
        try:
            return self._sections(json.loads(self._read()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
            logger.warning("snapshot %s is not used: %s", self._path, error)
            return {}

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"it is larger than {LARGEST_FILE} bytes")
        return content

    def _sections(self, document: Mapping[str, object]) -> dict[str, object]:
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {SCHEMA}")
        age = self._wall_clock() - float(str(document["written_at"]))
        if age > self._age_cap:
            raise ValueError(f"it is {age:.0f} s old, over {self._age_cap:.0f} s")
        return cast("dict[str, object]", document["sections"])

    async def run(self, sections: Callable[[], dict[str, object]], changed: asyncio.Event) -> None:
        """Write after each change until cancelled; the last state is written by who cancels."""
        while True:
            await changed.wait()
            changed.clear()
            await asyncio.to_thread(self.write, sections())
            await self._sleep(self._every)

    def write(self, sections: dict[str, object]) -> None:
        """Replace the file; a full or read-only disk is told once and changes nothing."""
        document = {"schema": SCHEMA, "written_at": self._wall_clock(), "sections": sections}
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            _write_through(fresh, json_bytes(document))
            fresh.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            self._on_failure()
            with contextlib.suppress(OSError):
                fresh.unlink()
            if not self._failing:
                logger.warning("snapshot %s cannot be written: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
