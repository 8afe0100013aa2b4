"""The fake's configuration documents: the database, and the cache that clients read later."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Document", "Documents", "Key")

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

    @property
    def md5(self) -> str:
        """As Nacos computes it."""
        return hashlib.md5(self.content.encode(), usedforsecurity=False).hexdigest()


class Documents:
    """Written at once, readable by clients after `delay_seconds`."""

    def __init__(self, clock: Callable[[], float], delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.stored: dict[Key, Document] = {}
        self._clock = clock
        self._cache: dict[Key, Document] = {}
        self._pending: deque[tuple[float, Key, Document | None]] = deque()

    def write(self, key: Key, document: Document | None) -> None:
        """Store or (None) delete; the cache follows later."""
        if document is None:
            self.stored.pop(key, None)
        else:
            self.stored[key] = document
        self._pending.append((self._clock() + self.delay_seconds, key, document))

    def visible(self, key: Key) -> Document | None:
        """What a client reads now."""
        while self._pending and self._pending[0][0] <= self._clock():
            _, at, document = self._pending.popleft()
            if document is None:
                self._cache.pop(at, None)
            else:
                self._cache[at] = document
        return self._cache.get(key)
