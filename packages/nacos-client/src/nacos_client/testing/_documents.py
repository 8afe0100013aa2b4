"""The fake's configuration documents: the database, and the cache that clients read from."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Beta", "Document", "Documents", "HistoryEntry", "Key")

Key = tuple[str, str, str]  # namespace, group, data id


@dataclass(frozen=True, slots=True)
class Document:
    """One published version."""

    content: str
    type: str
    modified_ms: int
    created_ms: int
    encrypted_data_key: str = ""
    desc: str = ""
    tags: str = ""
    app: str = ""

    config_id: int = 0

    @property
    def md5(self) -> str:
        """The hash of the content, as Nacos computes it."""
        return hashlib.md5(self.content.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of the history: what an update or deletion replaced, or what was created."""

    number: int
    key: Key
    document: Document
    operation: str
    publish_type: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Beta:
    """A version that only clients with some addresses see."""

    document: Document
    ips: tuple[str, ...]


class Documents:
    """The stored documents; clients read a new version only after `delay_seconds`."""

    def __init__(self, clock: Callable[[], float], delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.stored: dict[Key, Document] = {}
        self.betas: dict[Key, Beta] = {}
        self.history: list[HistoryEntry] = []
        self._numbers = count(1)
        self._clock = clock
        self._cache: dict[Key, Document] = {}
        self._pending: deque[tuple[float, Key, Document | None]] = deque()

    def write(self, key: Key, document: Document | None) -> None:
        """Store a document, or with None delete it; the cache follows later."""
        before = self.stored.get(key)
        if document is not None:
            number = before.config_id if before else next(self._numbers)
            document = replace(document, config_id=number)
        self._record(key, before, document)
        if document is None:
            self.stored.pop(key, None)
        else:
            self.stored[key] = document
        self._pending.append((self._clock() + self.delay_seconds, key, document))

    def _record(self, key: Key, before: Document | None, after: Document | None) -> None:
        recorded = before or after
        if recorded is None:
            return
        operation = "I" if before is None else "D" if after is None else "U"
        at_ms = int(time.time() * 1000)
        number = next(self._numbers)
        self.history.append(HistoryEntry(number, key, recorded, operation, "formal", at_ms))

    def read_cached(self, key: Key) -> Document | None:
        """The document that a client reads now."""
        while self._pending and self._pending[0][0] <= self._clock():
            _, written_key, document = self._pending.popleft()
            if document is None:
                self._cache.pop(written_key, None)
            else:
                self._cache[written_key] = document
        return self._cache.get(key)
