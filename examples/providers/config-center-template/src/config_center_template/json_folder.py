"""The engine: documents as numbered JSON files. REPLACE this file by calls of your own engine.

`FOLDER/_NAMESPACE/_GROUP/_DATA_ID/0000000007.json` is the seventh version of a document; the
highest number is in force. A version is written elsewhere and then linked to its name, which fails
when that name is taken: nobody reads half a file, and of two that publish at once one is told.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from microservice_core import InvalidValueError

__all__ = ("MOST_BYTES", "DocumentKey", "JsonFolder", "StoredVersion", "check_names")

DocumentKey = tuple[str, str, str]
"""Namespace, group, data id."""

VERSIONS_KEPT = 20
LONGEST_NAME = 200
MOST_BYTES = 10 * 1024 * 1024
_VERSION_FILE = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a document; without content it says that the document was deleted."""

    number: int
    content: str | None
    content_type: str
    published_at: datetime


class JsonFolder:
    """Reads and writes versions; every call may block.

    All raise `OSError` when the folder is not there or cannot be used, `ValueError` when a file
    is none of ours.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest_number(self, key: DocumentKey) -> int:
        """The number of the version in force; 0 when there never was one. Cheap, for polling."""
        return max(self._numbers(key), default=0)

    def newest(self, key: DocumentKey) -> StoredVersion | None:
        """The version in force."""
        while number := self.newest_number(key):
            with suppressed_when_pruned():
                return self._read(key, number)
        return None

    def versions(self, key: DocumentKey) -> list[StoredVersion]:
        """The versions kept, newest first."""
        found = []
        for number in sorted(self._numbers(key), reverse=True):
            with suppressed_when_pruned():
                found.append(self._read(key, number))
        return found

    def add(self, key: DocumentKey, version: StoredVersion) -> bool:
        """Write the version; False when its number is taken, by somebody who was faster."""
        self._refuse_missing_folder()
        place = self._place(key)
        place.mkdir(parents=True, exist_ok=True)
        draft = place / f".{uuid4().hex}.draft"
        try:
            _write(draft, version)
            os.link(draft, place / _file_name(version.number))
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        for number in sorted(self._numbers(key))[:-VERSIONS_KEPT]:
            (place / _file_name(number)).unlink(missing_ok=True)
        return True

    def _numbers(self, key: DocumentKey) -> list[int]:
        self._refuse_missing_folder()
        try:
            names = [path.name for path in self._place(key).iterdir()]
        except FileNotFoundError:
            return []
        return [int(found[1]) for name in names if (found := _VERSION_FILE.fullmatch(name))]

    def _read(self, key: DocumentKey, number: int) -> StoredVersion:
        path = self._place(key) / _file_name(number)
        if path.stat().st_size > 8 * MOST_BYTES:  # every character may have been escaped
            raise ValueError(f"version {number} is too large")
        read = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(read, dict):
            raise TypeError(f"version {number} is no JSON object")
        return StoredVersion(
            number=number,
            content=read["content"],
            content_type=read["content_type"],
            published_at=datetime.fromisoformat(read["published_at"]),
        )

    def _refuse_missing_folder(self) -> None:
        # An unmounted folder is an outage, not the news that every document was deleted.
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{self._folder} is not there")

    def _place(self, key: DocumentKey) -> Path:
        return self._folder.joinpath(*map(_escaped, key))


def check_names(key: DocumentKey) -> None:
    """Refuse what cannot be a document of this engine, before anything is done.

    Raises:
        InvalidValueError: an empty data id, or a name that is too long.
    """
    fields = dict(zip(("namespace_id", "group_name", "data_id"), key, strict=True))
    if not fields["data_id"]:
        raise InvalidValueError("data_id", "", "a non-empty name")
    for field, name in fields.items():
        if len(_escaped(name)) > LONGEST_NAME:
            raise InvalidValueError(field, name, f"at most {LONGEST_NAME} characters when escaped")


@contextmanager
def suppressed_when_pruned() -> Iterator[None]:
    """A version may be pruned between the listing and the reading."""
    try:
        yield
    except FileNotFoundError:
        return


def _escaped(name: str) -> str:
    return "_" + quote(name, safe="")  # never empty, never `..`, never with a separator


def _file_name(number: int) -> str:
    return f"{number:010}.json"


def _write(path: Path, version: StoredVersion) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(
            {
                "content": version.content,
                "content_type": version.content_type,
                "published_at": version.published_at.astimezone(UTC).isoformat(),
            },
            file,
            ensure_ascii=False,
        )
        file.flush()
        os.fsync(file.fileno())
