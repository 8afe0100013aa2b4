"""The application's configuration: always valid, always the newest, earlier versions at hand."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from pydantic import BaseModel

from microservice_core import (
    ConfigCenter,
    ConfigDeleted,
    ConfigResult,
    Unsubscribe,
    Watchers,
)
from microservice_kit.errors import InvalidConfigError
from microservice_kit.telemetry.counters import count

from .documents import ConfigSnapshot, DocumentId, DocumentReader, DocumentState
from .encryption import ConfigEncryption
from .included_documents import IncludedDocuments
from .layers import ConfigLayers, ValidConfig
from .reader import ConfigReader
from .versions import ConfigChange, ConfigVersion, ConfigVersions, KeyChange, Origin, compare

__all__ = ("ConfigService",)

logger = logging.getLogger(__name__)

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)


class ConfigService(ConfigReader[ModelT_co]):
    """Keeps `current` up to date: configuration center over environment over the model's defaults.

    Documents are merged in their order, a later one wins (`deep_merge` has the rules); then
    `ENC(...)` is decrypted and `${other.key:default}` resolved, then the model validates.

    A document that cannot be parsed or does not fit the model changes nothing: `current` keeps its
    value, and `problem` says why until the next valid version. A document that is deleted counts as
    empty. Use it from one event loop; reading is safe from any thread.

    Args:
        documents: data ids in rising precedence.
        env_prefix: variables that begin with it fill the model's fields, `__` between levels.
        reader: what to do when the center is down at start-up; by default that is an error.
        snapshot: where the documents read last are kept for the next start.
        encryption: decrypts `ENC(...)`; by default with keys from the environment.
        keep_versions: how many versions can be restored.

    Attributes:
        current: the validated model; replaced as a whole, so that one read is consistent.
        version: the version it belongs to.
    """

    def __init__(
        self,
        model: type[ModelT_co],
        center: ConfigCenter | None = None,
        documents: Sequence[str] = (),
        *,
        group_name: str = "",
        namespace_id: str = "",
        env_prefix: str = "APP_",
        reader: DocumentReader | None = None,
        snapshot: ConfigSnapshot | None = None,
        encryption: ConfigEncryption | None = None,
        keep_versions: int = 20,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._group_name = group_name
        self._namespace_id = namespace_id
        self._document_ids = tuple(DocumentId(name, group_name, namespace_id) for name in documents)
        self._layers = ConfigLayers(
            model,
            self._document_ids,
            env_prefix=env_prefix,
            encryption=encryption or ConfigEncryption(),
        )
        self._parts = {}
        self._center = center
        self._snapshot = snapshot
        self._document_reader: DocumentReader | None = None
        self._included = None
        if center is not None:
            self._document_reader = reader or DocumentReader(center)
            self._included = IncludedDocuments(
                center,
                self._document_reader,
                self._layers,
                context=lambda: self.version.data,
                listener=self._notify_followers,
            )
        self._states: dict[DocumentId, DocumentState] = {}
        self._versions: ConfigVersions[ModelT_co] = ConfigVersions(
            keep=keep_versions, wall_clock=wall_clock
        )
        self._unsubscribes: list[Unsubscribe] = []
        self._watchers: Watchers[str, ConfigVersion[ModelT_co]] = Watchers()
        self._followers: list[Callable[[], None]] = []
        self._section_problems: dict[str, InvalidConfigError] = {}

    async def open(self) -> None:
        """Read every document, then watch for changes.

        Raises:
            InvalidConfigError: a document or their sum is invalid, and there is no earlier valid
                version to keep.
            ConfigCenterError: the configuration center cannot be read.
        """
        for document_id in self._document_ids:
            self._states[document_id] = await self._read(document_id)
        self._add_version(self._layers.load(self._states), self._find_origin())
        self._save_snapshot()
        if self._center is not None:
            for document_id in self._document_ids:
                listener = partial(self._apply, document_id)
                self._unsubscribes.append(
                    self._center.watch_config(document_id.data_id, listener, *document_id[1:])
                )

    async def close(self) -> None:
        """Stop watching; `current` can still be read. Closing twice is fine."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        self._unsubscribes.clear()
        if self._included is not None:
            self._included.close()
        await self._watchers.aclose()

    # what is known

    @property
    def problem(self) -> InvalidConfigError | None:
        """Why the newest documents, or a section of them such as `calls`, were refused, or None."""
        included = self._included.problems if self._included is not None else {}
        documents = self._layers.problems | included
        return next(iter([*documents.values(), *self._section_problems.values()]), None)

    def report_section(self, key: str, problem: str | None) -> None:
        """Report what is wrong with the section at a key, for `problem`; None = it is right.

        For those that read a section for themselves. The message must not contain a value.
        """
        if problem is None:
            self._section_problems.pop(key, None)
        else:
            self._section_problems[key] = InvalidConfigError(key, problem)

    @property
    def degraded(self) -> bool:
        """Whether a document could not be read at start-up and has not been read since."""
        return bool(self._unread)

    @property
    def missing(self) -> tuple[str, ...]:
        """The merged documents that do not exist in the configuration center, by data id."""
        return tuple(
            document_id.data_id
            for document_id in self._document_ids
            if self._center is not None
            and isinstance(self._states.get(document_id), ConfigDeleted)
            and document_id not in self._unread
        )

    def include(self, document_id: DocumentId) -> None:
        """Watch a document besides those that are merged; `document` returns it once it was read."""
        document_id = self._qualify(document_id)
        if self._included is not None and document_id not in self._document_ids:
            self._included.watch(document_id)

    async def load(self, document_id: DocumentId) -> None:
        """Read a document besides those that are merged, and watch it.

        Raises:
            ConfigCenterError: see `open`.
        """
        document_id = self._qualify(document_id)
        if self._included is not None and document_id not in self._document_ids:
            await self._included.load(document_id)

    # changes

    def on_change(
        self, listener: Callable[[ConfigChange[ModelT_co]], Awaitable[None] | None]
    ) -> Unsubscribe:
        """Call the listener after each change; the returned callable ends that.

        Changes that come faster than the listener returns are reported as one.
        """
        last_version = self.version

        def notify(version: ConfigVersion[ModelT_co]) -> Awaitable[None] | None:
            nonlocal last_version
            changes = {change.key: change for change in self._compare(last_version, version)}
            last_version = version
            return listener(ConfigChange(version.model, version, changes)) if changes else None

        return self._watchers.add("config", notify)[1]

    def follow(self, follower: Callable[[], None]) -> Unsubscribe:
        """Call `follower` with each new version, before the event loop runs anything else."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower) if follower in self._followers else None

    # versions

    @property
    def versions(self) -> tuple[ConfigVersion[ModelT_co], ...]:
        """The versions kept, newest first."""
        return self._versions.newest_first

    @property
    def pinned(self) -> int | None:
        """The id of the version that was rolled back to, or None."""
        return self._versions.pinned

    def diff(self, old: int, new: int) -> tuple[KeyChange, ...]:
        """Return what differs between two versions, by their ids; secrets are masked.

        Raises:
            InvalidValueError: a version is not kept.
        """
        return self._compare(self._versions.find(old), self._versions.find(new))

    def rollback(self, version: int) -> ConfigVersion[ModelT_co]:
        """Go back to an earlier version, in this process only, until `resume`.

        Raises:
            InvalidValueError: it is not kept.
        """
        return self._use(self._versions.roll_back(version))

    def resume(self) -> ConfigVersion[ModelT_co]:
        """Use the newest documents again, after a `rollback`."""
        if self._versions.pinned is None:
            return self.version
        self._versions.pinned = None
        return self._add_version(self._layers.validate(), "center")

    async def publish_back(self, version: int) -> None:
        """Publish an earlier version's documents to the configuration center, for every process.

        Documents that did not exist in that version are deleted. A document is written only on top
        of the state known here. Ends a pin.

        Raises:
            InvalidValueError: it is not kept.
            ConfigRestoreError: the center cannot be written to.
            ConfigConflictError: a document was published by another writer meanwhile.
        """
        await self._versions.publish_back(version, self._center, self._document_ids, self._states)
        self.resume()

    # following the center

    async def _read(self, document_id: DocumentId) -> DocumentState:
        if self._document_reader is None:
            return ConfigDeleted(*document_id)
        return await self._document_reader.read(document_id)

    @property
    def _unread(self) -> set[DocumentId]:
        return self._document_reader.unread if self._document_reader is not None else set()

    def _apply(self, document_id: DocumentId, state: DocumentState) -> None:
        self._unread.discard(document_id)
        if state == self._states[document_id]:
            return
        self._states[document_id] = state
        self._save_snapshot()
        try:
            config = self._layers.update(document_id, state)
        except InvalidConfigError as error:
            count("microservice.config.reloads", outcome="invalid")
            logger.error("%s; keeping the last valid version", error)  # noqa: TRY400
            return
        outcome = "applied" if self.pinned is None else "pinned"
        count("microservice.config.reloads", outcome=outcome)
        if self.pinned is None and config.data != self.version.data:
            self._add_version(config, "center")
            logger.info("configuration %r changed", document_id.data_id)

    def _add_version(
        self, config: ValidConfig[ModelT_co], origin: Origin
    ) -> ConfigVersion[ModelT_co]:
        documents = [self._states[document_id] for document_id in self._document_ids]
        return self._use(self._versions.add(config, documents, origin))

    def _use(self, version: ConfigVersion[ModelT_co]) -> ConfigVersion[ModelT_co]:
        self.version = version
        self.current = version.model
        self._notify_followers()
        self._watchers.notify("config", version)
        return version

    def _notify_followers(self) -> None:
        for follower in tuple(self._followers):
            try:
                follower()
            except Exception:
                logger.exception("a follower of the configuration failed; it stays subscribed")

    def _find_origin(self) -> Origin:
        if self._center is not None and self._unread != set(self._document_ids):
            return "center"
        is_read = any(isinstance(state, ConfigResult) for state in self._states.values())
        return "snapshot" if is_read else "defaults"

    def _save_snapshot(self) -> None:
        # Not while a document is unread: the snapshot of an earlier run still has it.
        if self._snapshot is not None and not self._unread:
            self._snapshot.save(self._states)

    def _compare(
        self, old: ConfigVersion[ModelT_co], new: ConfigVersion[ModelT_co]
    ) -> tuple[KeyChange, ...]:
        return compare(old.data, new.data, self._layers.secret_keys)
