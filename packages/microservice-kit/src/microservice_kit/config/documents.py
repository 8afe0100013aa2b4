"""The documents of a configuration: read at start-up by policy, kept in a snapshot for the next."""

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
from typing import NamedTuple, cast

from microservice_core import (
    ConfigCenter,
    ConfigCenterError,
    ConfigDeleted,
    ConfigNotFoundError,
    ConfigResult,
    InvalidValueError,
    ServerAddressed,
    reseed_after_fork,
)
from microservice_kit.outages import OnUnavailable, retry_pause_seconds

__all__ = ("ConfigSnapshot", "DocumentId", "DocumentReader", "DocumentState", "add_profiles")

logger = logging.getLogger(__name__)

DocumentState = ConfigResult | ConfigDeleted
"""A document as the configuration center has it now."""

_SCHEMA = 1
_MAX_PAUSE_SECONDS = 10.0


class DocumentId(NamedTuple):
    """Names a document; an empty group or namespace is the provider's default."""

    data_id: str
    group_name: str = ""
    namespace_id: str = ""


def add_profiles(data_ids: Iterable[str], profiles: Iterable[str]) -> tuple[str, ...]:
    """Insert after each data id its variant for each profile: `app.yaml`, `app-dev.yaml`."""
    names = []
    for data_id in data_ids:
        stem, dot, ending = data_id.rpartition(".")
        stem, ending = (stem, dot + ending) if stem else (data_id, "")
        names += [data_id, *(f"{stem}-{profile}{ending}" for profile in profiles)]
    return tuple(names)


class ConfigSnapshot:
    """The documents read last, in one file that only its owner can read.

    They are stored as they were published: an encrypted value stays encrypted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def load(self) -> dict[DocumentId, ConfigResult]:
        """Read the documents saved last; none when the file is absent or cannot be trusted."""
        try:
            return _decode_documents(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
            logger.warning("configuration snapshot %s is not used: %s", self._path, error)
            return {}

    def save(self, documents: Mapping[DocumentId, DocumentState]) -> None:
        """Replace the whole file; failures of the disk are logged once until one save succeeds."""
        existing = [
            (list(document_id), [state.content, state.md5, state.content_type])
            for document_id, state in documents.items()
            if isinstance(state, ConfigResult)
        ]
        try:
            content = json.dumps({"schema": _SCHEMA, "documents": existing}).encode()
            _replace_file(self._path, content)
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.warning("configuration snapshot %s cannot be written: %s", self._path, error)
            self._failing = True


def _decode_documents(snapshot: Mapping[str, object]) -> dict[DocumentId, ConfigResult]:
    if snapshot["schema"] != _SCHEMA:
        raise ValueError(f"its schema is {snapshot['schema']!r}, not {_SCHEMA}")
    entries = cast("list[tuple[list[str], list[str]]]", snapshot["documents"])
    return {
        DocumentId(*name): ConfigResult(content, md5, None, content_type, *name)
        for name, (content, md5, content_type) in entries
    }


def _replace_file(path: Path, content: bytes) -> None:
    # Written beside it, synced, then renamed: a crash leaves the old file or the new one, never half.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new_path = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new_path.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new_path.unlink()


class DocumentReader:
    """Reads documents for the first time, by the policy for an unreachable configuration center.

    Args:
        on_unavailable: `fail` raises; `wait` retries for `wait_seconds`, then raises; `degrade`
            takes the snapshot's document, or none. A refusal, such as a wrong password, raises
            under every policy: waiting does not help.
        wait_seconds: how long `wait` retries each document.
        snapshot: the documents of an earlier run.

    Attributes:
        unread: the documents that could not be read yet; removed when the center delivers them.
    """

    def __init__(
        self,
        center: ConfigCenter,
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
        self._on_unavailable = on_unavailable
        self._wait_seconds = wait_seconds
        self._snapshot = snapshot
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or reseed_after_fork(random.Random())
        self._snapshot_documents: dict[DocumentId, ConfigResult] | None = None
        self.unread: set[DocumentId] = set()

    async def read(self, document_id: DocumentId) -> DocumentState:
        """Read a document; `ConfigDeleted` when it does not exist.

        Raises:
            ConfigCenterError: the center cannot be read, and the policy does not cover that.
        """
        try:
            return await self._read_with_retries(document_id)
        except ConfigNotFoundError:
            logger.warning(
                "configuration %r does not exist yet; using defaults (%s)",
                document_id.data_id,
                self._describe_place(document_id),
            )
            return ConfigDeleted(*document_id)
        except ConfigCenterError as error:
            if self._on_unavailable != "degrade" or not error.retryable:
                raise
            return self._fall_back(document_id, error)

    async def _read_with_retries(self, document_id: DocumentId) -> ConfigResult:
        deadline = self._clock() + self._wait_seconds
        failures = 0
        while True:
            try:
                return await self._center.get_config(*document_id)
            except ConfigNotFoundError:
                raise
            except ConfigCenterError as error:
                failures += 1
                pause = retry_pause_seconds(failures, max_seconds=_MAX_PAUSE_SECONDS, rng=self._rng)
                is_late = self._clock() + pause >= deadline
                if self._on_unavailable != "wait" or not error.retryable or is_late:
                    raise
                logger.warning("%s; retrying in %.1f s", error, pause)
                await self._sleep(pause)

    def _describe_place(self, document_id: DocumentId) -> str:
        """Say where a document was looked for: a wrong group or namespace looks like a wrong name."""
        server = self._center.server_address if isinstance(self._center, ServerAddressed) else ""
        places = {
            "group": document_id.group_name or "the default",
            "namespace": document_id.namespace_id or "the default",
            "server": server,
        }
        return ", ".join(f"{kind} {name}" for kind, name in places.items() if name)

    def _fall_back(self, document_id: DocumentId, error: ConfigCenterError) -> DocumentState:
        if self._snapshot_documents is None:
            self._snapshot_documents = self._snapshot.load() if self._snapshot else {}
        document = self._snapshot_documents.get(document_id)
        source = "the snapshot" if document else "defaults"
        logger.warning("%s; starting with %s for %r", error, source, document_id.data_id)
        self.unread.add(document_id)
        return document or ConfigDeleted(*document_id)
