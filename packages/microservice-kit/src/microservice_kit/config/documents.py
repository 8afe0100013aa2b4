"""The documents of a configuration: read at the start whatever the center does, kept for next time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast

from microservice_core import (
    ConfigCenter,
    ConfigCenterError,
    ConfigDeleted,
    ConfigNotFoundError,
    ConfigResult,
    InvalidValueError,
)

__all__ = ("ConfigSnapshot", "DocumentId", "DocumentReader", "OnUnavailable", "with_profiles")

logger = logging.getLogger(__name__)

OnUnavailable = Literal["fail", "wait", "degrade"]
State = ConfigResult | ConfigDeleted

SCHEMA = 1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0


class DocumentId(NamedTuple):
    """Where a document lies; an empty group or namespace is the provider's default."""

    data_id: str
    group_name: str = ""
    namespace_id: str = ""


def with_profiles(data_ids: Iterable[str], profiles: Iterable[str]) -> tuple[str, ...]:
    """Each data id, then its variant for each profile: `app.yaml`, `app-dev.yaml`."""
    names = []
    for data_id in data_ids:
        stem, dot, ending = data_id.rpartition(".")
        stem, ending = (stem, dot + ending) if stem else (data_id, "")
        names += [data_id, *(f"{stem}-{profile}{ending}" for profile in profiles)]
    return tuple(names)


class ConfigSnapshot:
    """The documents seen last, in one file that only the owner can read.

    They are kept as they were published: what is encrypted stays so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def load(self) -> dict[DocumentId, ConfigResult]:
        """What was saved last; empty when there is nothing to believe."""
        try:
            return _documents_in(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
            logger.warning("configuration snapshot %s is not used: %s", self._path, error)
            return {}

    def save(self, documents: Mapping[DocumentId, State]) -> None:
        """Replace the file as a whole; a disk that does not take it is logged once."""
        kept = [
            (list(where), [state.content, state.md5, state.content_type])
            for where, state in documents.items()
            if isinstance(state, ConfigResult)
        ]
        try:
            _replace(self._path, json.dumps({"schema": SCHEMA, "documents": kept}).encode())
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.warning("configuration snapshot %s cannot be written: %s", self._path, error)
            self._failing = True


def _documents_in(document: Mapping[str, object]) -> dict[DocumentId, ConfigResult]:
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is {document['schema']!r}, not {SCHEMA}")
    kept = cast("list[tuple[list[str], list[str]]]", document["documents"])
    return {
        DocumentId(*where): ConfigResult(content, md5, None, content_type, *where)
        for where, (content, md5, content_type) in kept
    }


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()


class DocumentReader:
    """Reads documents for the first time, by the policy for a center that cannot be reached.

    Args:
        on_unavailable: `fail` raises; `wait` asks again for `wait_seconds`, then raises; `degrade`
            takes the snapshot's document, or none. A refusal, such as a wrong password, raises
            under every policy: waiting does not help.
        snapshot: documents of an earlier run.

    Attributes:
        missed: the documents that could not be read; they come when the center is back.
    """

    def __init__(
        self,
        center: ConfigCenter | None,
        *,
        on_unavailable: OnUnavailable = "fail",
        wait_seconds: float = 60.0,
        snapshot: ConfigSnapshot | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        if on_unavailable not in {"fail", "wait", "degrade"}:
            raise InvalidValueError("on_unavailable", on_unavailable, "fail, wait or degrade")
        if not wait_seconds > 0:
            raise InvalidValueError("wait_seconds", wait_seconds, "a number above 0")
        self._center = center
        self._policy = on_unavailable
        self._wait_seconds = wait_seconds
        self._snapshot = snapshot
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._kept: dict[DocumentId, ConfigResult] | None = None
        self.missed: set[DocumentId] = set()

    async def read(self, where: DocumentId) -> State:
        """The document, or `ConfigDeleted` when there is none.

        Raises:
            ConfigCenterError: the center cannot be read, and the policy does not cover that.
        """
        if self._center is None:
            return ConfigDeleted(*where)
        try:
            return await self._asked(self._center, where)
        except ConfigNotFoundError:
            logger.warning(
                "configuration %r does not exist yet; defaults are in force", where.data_id
            )
            return ConfigDeleted(*where)
        except ConfigCenterError as error:
            if self._policy != "degrade" or not error.retryable:
                raise
            return self._instead(where, error)

    async def _asked(self, center: ConfigCenter, where: DocumentId) -> ConfigResult:
        give_up_at = self._clock() + self._wait_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await center.get_config(*where)
            except ConfigNotFoundError:
                raise
            except ConfigCenterError as error:
                wait = pause * self._rng.uniform(0.5, 1.0)
                late = self._clock() + wait >= give_up_at
                if self._policy != "wait" or not error.retryable or late:
                    raise
                logger.warning("%s; asking again in %.1f s", error, wait)
                await self._sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _instead(self, where: DocumentId, error: ConfigCenterError) -> State:
        if self._kept is None:
            self._kept = self._snapshot.load() if self._snapshot else {}
        kept = self._kept.get(where)
        source = "the snapshot" if kept else "defaults"
        logger.warning("%s; starting with %s for %r", error, source, where.data_id)
        self.missed.add(where)
        return kept or ConfigDeleted(*where)
