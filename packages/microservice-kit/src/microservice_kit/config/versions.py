"""Versions of a configuration: where each came from, what differs, and how to go back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from microservice_core import (
    ConfigCenter,
    ConfigDeleted,
    ConfigPublisher,
    ConfigResult,
    InvalidValueError,
    md5_of,
)
from microservice_kit.errors import ConfigRestoreError

from .data import iter_leaves
from .documents import DocumentId, DocumentState
from .layers import ValidConfig
from .secrets import mask_secrets

__all__ = ("ConfigChange", "ConfigVersion", "ConfigVersions", "KeyChange", "Origin", "compare")

logger = logging.getLogger(__name__)

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)
Origin = Literal["center", "snapshot", "defaults", "rollback"]

_MD5_OF_NOTHING = md5_of("")


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that differs between two versions.

    Attributes:
        key: with dots, such as `db.pool`.
        old, new: the values, None where the key is absent; `******` for a secret.
    """

    key: str
    kind: Literal["added", "removed", "changed"]
    old: object
    new: object


@dataclass(frozen=True, slots=True)
class ConfigVersion(Generic[ModelT_co]):
    """One state of the whole configuration.

    Attributes:
        id: counts up from 1 in this process.
        md5: the fingerprint of all documents together.
        sources: the fingerprint of each document by data id; empty for an absent document.
        time: when this process started to use it, UTC.
        origin: `center`, `snapshot` (the center was down), `defaults` (and no snapshot either) or
            `rollback`.
        model: the validated configuration.
        data: the merged data that the model was validated from.
        documents: the state of each document, in the order in which they are merged.
    """

    id: int
    md5: str
    sources: Mapping[str, str]
    time: datetime
    origin: Origin
    model: ModelT_co = field(repr=False, compare=False)
    data: Mapping[str, object] = field(repr=False, compare=False)
    documents: tuple[DocumentState, ...] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ConfigChange(Generic[ModelT_co]):
    """What a listener receives: the present configuration, and what changed since its last call.

    Attributes:
        current: the validated configuration.
        version: the version it belongs to.
        keys: the changes by dotted key; secrets are masked.
    """

    current: ModelT_co
    version: ConfigVersion[ModelT_co]
    keys: Mapping[str, KeyChange]


def compare(
    old: Mapping[str, object],
    new: Mapping[str, object],
    secret_keys: AbstractSet[str] = frozenset(),
) -> tuple[KeyChange, ...]:
    """Return the keys that differ, sorted; a list is one value.

    Args:
        secret_keys: dotted keys whose values are masked with everything below them, besides the
            keys whose name suggests a secret.
    """
    before, after = dict(iter_leaves(old)), dict(iter_leaves(new))
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            value = mask_secrets(key, after[key], secret_keys)
            changes.append(KeyChange(key, "added", None, value))
        elif key not in after:
            value = mask_secrets(key, before[key], secret_keys)
            changes.append(KeyChange(key, "removed", value, None))
        # The types as well: True == 1 == 1.0 in Python, but not in a document.
        elif before[key] != after[key] or type(before[key]) is not type(after[key]):
            values = (mask_secrets(key, side[key], secret_keys) for side in (before, after))
            changes.append(KeyChange(key, "changed", *values))
    return tuple(changes)


class ConfigVersions(Generic[ModelT_co]):
    """The last versions of one configuration, and the one it is pinned to.

    Written from one event loop; safe to read from any thread: `newest_first` is replaced, never changed.

    Args:
        keep: how many versions are kept.
        wall_clock: UTC.

    Attributes:
        newest_first: the versions that are kept.
        pinned: the id of the version that was rolled back to, or None.
    """

    def __init__(
        self, *, keep: int, wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        if keep < 1:
            raise InvalidValueError("keep_versions", keep, "at least 1")
        self._keep = keep
        self._wall_clock = wall_clock
        self._last_id = 0
        self.newest_first: tuple[ConfigVersion[ModelT_co], ...] = ()
        self.pinned: int | None = None

    def add(
        self, config: ValidConfig[ModelT_co], documents: Sequence[DocumentState], origin: Origin
    ) -> ConfigVersion[ModelT_co]:
        """Make a version of this configuration and keep it as the newest."""
        sources = {state.data_id: getattr(state, "md5", "") for state in documents}
        md5 = md5_of("\n".join(sources.values())) if sources else _MD5_OF_NOTHING
        now = self._wall_clock()
        self._last_id += 1
        version = ConfigVersion(
            self._last_id, md5, sources, now, origin, config.model, config.data, tuple(documents)
        )
        self.newest_first = (version, *self.newest_first[: self._keep - 1])
        return version

    def find(self, version_id: int) -> ConfigVersion[ModelT_co]:
        """Return the version with this id.

        Raises:
            InvalidValueError: it is not kept.
        """
        for version in self.newest_first:
            if version.id == version_id:
                return version
        ids = ", ".join(str(version.id) for version in reversed(self.newest_first))
        raise InvalidValueError("version", version_id, f"one that is kept: {ids}")

    def roll_back(self, version_id: int) -> ConfigVersion[ModelT_co]:
        """Pin an earlier version: it becomes the newest again.

        Raises:
            InvalidValueError: it is not kept.
        """
        earlier = self.find(version_id)
        self.pinned = version_id
        logger.warning("configuration pinned to version %d until resume()", version_id)
        return self.add(ValidConfig(earlier.model, earlier.data), earlier.documents, "rollback")

    async def publish_back(
        self,
        version_id: int,
        center: ConfigCenter | None,
        document_ids: Sequence[DocumentId],
        present: Mapping[DocumentId, DocumentState],
    ) -> None:
        """Publish an earlier version's documents to the configuration center.

        Args:
            document_ids: the merged documents, in the order of the version's `documents`.
            present: their newest known states; a document is only written on top of this state.

        Raises:
            InvalidValueError: the version is not kept.
            ConfigRestoreError: the center cannot be written to.
            ConfigConflictError: a document was published by another writer meanwhile.
        """
        earlier = self.find(version_id)
        if not isinstance(center, ConfigPublisher):
            raise ConfigRestoreError(version_id)
        for document_id, target in zip(document_ids, earlier.documents, strict=True):
            await _restore_document(center, document_id, present[document_id], target)


async def _restore_document(
    center: ConfigPublisher, document_id: DocumentId, present: DocumentState, target: DocumentState
) -> None:
    if isinstance(target, ConfigDeleted):
        if isinstance(present, ConfigResult):
            await center.delete_config(*document_id)
    elif isinstance(present, ConfigDeleted) or present.md5 != target.md5:
        await center.publish_config(
            document_id.data_id,
            target.content,
            *document_id[1:],
            content_type=target.content_type,
            expected_md5=present.md5 if isinstance(present, ConfigResult) else None,
        )
