"""The engine: documents as numbered JSON files. REPLACE this file by calls of your own engine.

`FOLDER/_NAMESPACE/_GROUP/_DATA_ID/0000000007.json` is the seventh version of a document; the
highest number is the present one. A version is written to a draft and then linked to its name, which
fails when that name is taken: no reader sees half a file, and one of two concurrent writers fails.
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

__all__ = ("MAX_BYTES", "DocumentKey", "JsonFolder", "StoredVersion", "check_names")

DocumentKey = tuple[str, str, str]
"""Namespace, group, data id."""

MAX_VERSIONS = 20
MAX_NAME = 200
MAX_BYTES = 10 * 1024 * 1024
_VERSION_FILE = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a document; without content the document was deleted."""

    number: int
    content: str | None
    content_type: str
    published_at: datetime


class JsonFolder:
    """Reads and writes versions; every call may block.

    All raise `OSError` when the folder does not exist or cannot be used, `ValueError` when a file
    is no version of a document.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest_number(self, key: DocumentKey) -> int:
        """Return the number of the present version; 0 when there is none. Cheap, for polling."""
        return max(self._numbers(key), default=0)

    def newest(self, key: DocumentKey) -> StoredVersion | None:
        """Read the present version."""
        while number := self.newest_number(key):
            with ignore_pruned():
                return self._read(key, number)
        return None

    def versions(self, key: DocumentKey) -> list[StoredVersion]:
        """Read the versions that are kept, newest first."""
        versions = []
        for number in sorted(self._numbers(key), reverse=True):
            with ignore_pruned():
                versions.append(self._read(key, number))
        return versions

    def add(self, key: DocumentKey, version: StoredVersion) -> bool:
        """Write the version; False when another writer took its number first."""
        self._refuse_missing_folder()
        folder = self._folder_of(key)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{uuid4().hex}.draft"
        try:
            _write(draft, version)
            os.link(draft, folder / _file_name(version.number))
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        for number in sorted(self._numbers(key))[:-MAX_VERSIONS]:
            (folder / _file_name(number)).unlink(missing_ok=True)
        return True

    def _numbers(self, key: DocumentKey) -> list[int]:
        self._refuse_missing_folder()
        try:
            names = [path.name for path in self._folder_of(key).iterdir()]
        except FileNotFoundError:
            return []
        return [int(match[1]) for name in names if (match := _VERSION_FILE.fullmatch(name))]

    def _read(self, key: DocumentKey, number: int) -> StoredVersion:
        path = self._folder_of(key) / _file_name(number)
        if path.stat().st_size > 8 * MAX_BYTES:  # every character may have been escaped
            raise ValueError(f"version {number} is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise TypeError(f"version {number} is no JSON object")
        return StoredVersion(
            number=number,
            content=document["content"],
            content_type=document["content_type"],
            published_at=datetime.fromisoformat(document["published_at"]),
        )

    def _refuse_missing_folder(self) -> None:
        # An unmounted folder is an outage, not the deletion of every document.
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{self._folder} does not exist")

    def _folder_of(self, key: DocumentKey) -> Path:
        return self._folder.joinpath(*map(_escape, key))


def check_names(key: DocumentKey) -> None:
    """Refuse what cannot be a document of this engine, before anything is read or written.

    Raises:
        InvalidValueError: an empty data id, or a name that is too long.
    """
    fields = dict(zip(("namespace_id", "group_name", "data_id"), key, strict=True))
    if not fields["data_id"]:
        raise InvalidValueError("data_id", "", "a non-empty name")
    for field, name in fields.items():
        if len(_escape(name)) > MAX_NAME:
            raise InvalidValueError(field, name, f"at most {MAX_NAME} characters when escaped")


@contextmanager
def ignore_pruned() -> Iterator[None]:
    """Ignore that a version was pruned between listing and reading."""
    try:
        yield
    except FileNotFoundError:
        return


def _escape(name: str) -> str:
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
