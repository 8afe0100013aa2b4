"""A copy of what is served, on disk, for a restart during an outage.

One JSON file, replaced as a whole. It is read at the start only, and used only when it is complete,
of a known schema and not too old.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .response import encode_json

__all__ = ("SnapshotFile",)

logger = logging.getLogger(__name__)

_SCHEMA = 1
_MAX_FILE_BYTES = 256 * 1024 * 1024


class SnapshotFile:
    """A file with named sections of JSON.

    Args:
        age_cap_seconds: an older file is not used.
        every_seconds: the shortest time between two writes.
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

    def read(self) -> dict[str, object]:
        """The sections that were written last; empty when there is no usable file."""
        try:
            return self._parse(json.loads(self._read_bytes()))
        except FileNotFoundError:
            return {}
        except (
            OSError,
            LookupError,
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ) as error:
            logger.warning("snapshot %s is not used: %s", self._path, error)
            return {}

    def _read_bytes(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
        return content

    def _parse(self, document: object) -> dict[str, object]:
        if not isinstance(document, dict):
            raise TypeError("it is no object")
        if document["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {_SCHEMA}")
        age = self._wall_clock() - float(str(document["written_at"]))
        if age > self._age_cap:
            raise ValueError(f"it is {age:.0f} s old, over {self._age_cap:.0f} s")
        sections = document["sections"]
        if not isinstance(sections, dict):
            raise TypeError("its sections are no object")
        return sections

    async def run(self, sections: Callable[[], dict[str, object]], changed: asyncio.Event) -> None:
        """Write after each change, until cancelled.

        The owner writes the last state after cancelling this.

        Args:
            sections: returns what to write.
            changed: set by the owner after each change.
        """
        while True:
            await changed.wait()
            changed.clear()
            await asyncio.to_thread(self.write, sections())
            await self._sleep(self._every)

    def write(self, sections: dict[str, object]) -> None:
        """Replace the file; a failure, such as a full disk, is logged once and changes nothing."""
        document = {"schema": _SCHEMA, "written_at": self._wall_clock(), "sections": sections}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            _write_through(temporary, encode_json(document))
            temporary.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            self._on_failure()
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not self._failing:
                logger.warning("snapshot %s cannot be written: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False


def _write_through(path: Path, data: bytes) -> None:
    # Only the owner reads it: it names every instance and what its metadata says.
    path.unlink(missing_ok=True)
    with open(path, "wb", opener=_open_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
