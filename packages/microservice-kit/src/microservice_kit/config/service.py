"""The application's configuration: always valid, always the newest, any earlier version at hand."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, Generic, TypeVar, cast, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from microservice_core import (
    ConfigCenter,
    ConfigDeleted,
    ConfigPublisher,
    ConfigResult,
    InvalidValueError,
    Unsubscribe,
    md5_of,
)
from microservice_core.delivery import Watchers
from microservice_kit.errors import ConfigRestoreError, InvalidConfigError
from microservice_kit.telemetry.counters import count

from .documents import ConfigSnapshot, DocumentId, DocumentReader
from .encryption import ConfigEncryption
from .included_documents import IncludedDocuments
from .layers import ConfigLayers, without_values
from .parsing import Data
from .placeholders import MISSING, lookup
from .versions import ConfigChange, ConfigVersion, KeyChange, Origin, compare

__all__ = ("ConfigService",)

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)
PartT = TypeVar("PartT", bound=BaseModel)
ValueT = TypeVar("ValueT")
State = ConfigResult | ConfigDeleted

_REQUIRED: Final = object()


class ConfigService(Generic[ModelT]):
    """Keeps `current` true: configuration center over environment over the model's defaults.

    Documents are merged in their order, a later one wins (`deep_merge` has the rules); then
    `ENC(...)` is decrypted and `${other.key:default}` is filled in, then the model validates.

    A document that cannot be parsed or does not fit the model changes nothing: `current` stays
    what it was, `problem` says why, and the next good version ends it. A document that is
    deleted counts as empty. Belongs to one event loop; reading is safe from any thread.

    Args:
        documents: data ids in rising precedence.
        env_prefix: variables that begin with it fill the model's fields, `__` between levels.
        reader: how the first read goes while the center is down; by default it fails.
        snapshot: where the documents seen last are kept for the next start.
        encryption: decrypts `ENC(...)`; by default with keys from the environment.
        keep_versions: how many versions can be gone back to.

    Attributes:
        current: the validated model; replaced as a whole, so that one read is consistent.
        version: the version it belongs to.
        pinned: the id of the version that was gone back to, or None.
    """

    def __init__(
        self,
        model: type[ModelT],
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
        if keep_versions < 1:
            raise InvalidValueError("keep_versions", keep_versions, "at least 1")
        self._center = center
        self._home = (group_name, namespace_id)
        self._documents = tuple(DocumentId(one, *self._home) for one in documents)
        self._reader = reader or DocumentReader(center)
        self._snapshot = snapshot
        self._wall_clock = wall_clock
        self._layers = ConfigLayers(
            model,
            self._documents,
            env_prefix=env_prefix,
            encryption=encryption or ConfigEncryption(),
        )
        self._included = IncludedDocuments(
            center,
            self._reader,
            cast("ConfigLayers[BaseModel]", self._layers),
            around=lambda: self.version.data,
            on_change=self._tell_followers,
        )
        self._states: dict[DocumentId, State] = {}
        self._versions: deque[ConfigVersion[ModelT]] = deque(maxlen=keep_versions)
        self._made = 0
        self._parts: dict[tuple[type[BaseModel], str], tuple[int, BaseModel]] = {}
        self._stops: list[Unsubscribe] = []
        self._watchers: Watchers[str, ConfigVersion[ModelT]] = Watchers()
        self._followers: list[Callable[[], None]] = []
        self.pinned: int | None = None
        self.current: ModelT
        self.version: ConfigVersion[ModelT]

    async def open(self) -> None:
        """Read every document, then follow their changes.

        Raises:
            InvalidConfigError: a document or their sum is invalid; there is no last good one yet.
            ConfigCenterError: the configuration center cannot be read.
        """
        for where in self._documents:
            self._states[where] = await self._reader.read(where)
        self._enter(*self._layers.start(self._states), self._origin())
        self._save()
        if self._center is not None:
            for where in self._documents:
                listener = partial(self._changed, where)
                self._stops.append(self._center.watch_config(where.data_id, listener, *where[1:]))

    async def close(self) -> None:
        """Stop following; `current` stays readable."""
        for stop in self._stops:
            stop()
        self._stops.clear()
        self._included.close()
        await self._watchers.aclose()

    # reading

    @property
    def versions(self) -> tuple[ConfigVersion[ModelT], ...]:
        """The versions kept, newest first."""
        return tuple(reversed(self._versions))

    @property
    def problem(self) -> InvalidConfigError | None:
        """What is wrong with the newest documents, or None."""
        return next(iter((self._layers.problems | self._included.problems).values()), None)

    @property
    def degraded(self) -> bool:
        """Whether the start had to do without a document that has not come since."""
        return bool(self._reader.missed)

    @overload
    def get(self, key: str) -> object: ...
    @overload
    def get(self, key: str, default: ValueT) -> ValueT: ...
    def get(self, key: str, default: object = _REQUIRED) -> object:
        """The value at a dotted key, of the type of the default where there is one.

        Raises:
            InvalidConfigError: there is no such key and no default, or the value is of another
                type.
        """
        found = lookup(self.version.data, key)
        if found is MISSING:
            if default is _REQUIRED:
                raise InvalidConfigError(self._layers.name, f"there is no key {key!r}")
            return default
        if default is _REQUIRED or default is None:
            return found
        try:
            return TypeAdapter(type(default)).validate_python(found)
        except ValidationError as error:
            raise without_values(f"{self._layers.name} {key}", error) from None

    def text(self, data_id: str) -> str:
        """The content of one of the documents as it is, decrypted if the whole is encrypted.

        Raises:
            InvalidConfigError: there is no such document.
        """
        for state in self.version.documents:
            if isinstance(state, ConfigResult) and state.data_id == data_id:
                return self._layers.text(state)
        raise InvalidConfigError(data_id, "it does not exist or is none of the documents")

    def properties(self, model: type[PartT], prefix: str = "") -> PartT:
        """A part of the configuration as a model of its own, always up to date.

        When a later version does not fit the model, that is logged and the last good part stays.

        Args:
            prefix: the dotted key of the part; by default that of `config_properties`.

        Raises:
            InvalidConfigError: the part does not fit the model, and never did.
        """
        prefix = prefix or getattr(model, "__config_prefix__", "")
        made, part = self._parts.get((model, prefix), (0, None))
        if part is None or made != self.version.id:
            part = self._part(model, prefix, part)
            self._parts[model, prefix] = (self.version.id, part)
        return cast(PartT, part)

    def _part(self, model: type[BaseModel], prefix: str, last_good: BaseModel | None) -> BaseModel:
        found = lookup(self.version.data, prefix) if prefix else self.version.data
        try:
            return model.model_validate({} if found is MISSING else found)
        except ValidationError as error:
            problem = without_values(prefix or self._layers.name, error)
            if last_good is None:
                raise problem from None
            logger.error("%s; the last good values of %s stay", problem, model.__name__)  # noqa: TRY400
            return last_good

    def document(self, where: DocumentId) -> Mapping[str, object]:
        """What one document says, without the others; empty when there is none.

        An empty group or namespace is the one of the configuration.

        Raises:
            InvalidConfigError: it cannot be decrypted or filled in.
        """
        where = self._at_home(where)
        parsed: Data = {}
        if where in self._documents:
            state = self.version.documents[self._documents.index(where)]
            parsed = self._layers.parsed(state)
        elif where in self._included:
            parsed = self._included[where]
        return self._layers.resolved(where.data_id, parsed, self.version.data)

    def include(self, where: DocumentId) -> None:
        """Follow a document besides those that are merged; `document` shows it once it is here."""
        where = self._at_home(where)
        if where not in self._documents:
            self._included.follow(where)

    async def load(self, where: DocumentId) -> None:
        """Read a document besides those that are merged, and follow it.

        Raises:
            ConfigCenterError: see `open`.
        """
        where = self._at_home(where)
        if where not in self._documents:
            await self._included.load(where)

    # changes

    def on_change(
        self, listener: Callable[[ConfigChange[ModelT]], Awaitable[None] | None]
    ) -> Unsubscribe:
        """Call the listener after each change; the returned callable ends it.

        Changes that follow each other faster than the listener are told as one.
        """
        seen = self.version

        def tell(version: ConfigVersion[ModelT]) -> Awaitable[None] | None:
            nonlocal seen
            told = {change.key: change for change in self._compared(seen, version)}
            seen = version
            return listener(ConfigChange(version.model, version, told)) if told else None

        return self._watchers.add("config", tell)[1]

    def follow(self, follower: Callable[[], None]) -> Unsubscribe:
        """Call `follower` with each new version before anything else runs."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower) if follower in self._followers else None

    def diff(self, old: int, new: int) -> tuple[KeyChange, ...]:
        """What differs between two versions, by their ids; secrets are masked.

        Raises:
            InvalidValueError: a version is not kept.
        """
        return self._compared(self._find(old), self._find(new))

    def rollback(self, version: int) -> ConfigVersion[ModelT]:
        """Go back to an earlier version, here only, and stay there until `resume`.

        Raises:
            InvalidValueError: it is not kept.
        """
        earlier = self._find(version)
        self.pinned = version
        logger.warning("configuration pinned to version %d; resume() ends that", version)
        return self._enter(earlier.model, earlier.data, "rollback", earlier.documents)

    def resume(self) -> ConfigVersion[ModelT]:
        """Follow the documents again, after a `rollback`."""
        if self.pinned is None:
            return self.version
        self.pinned = None
        return self._enter(*self._layers.validated(), "center")

    async def publish_back(self, version: int) -> None:
        """Publish an earlier version's documents to the configuration center, for everyone.

        Documents that did not exist then are deleted. Each is written only on top of the state
        known here. Ends a pin.

        Raises:
            InvalidValueError: it is not kept.
            ConfigRestoreError: the center cannot be written to.
            ConfigConflictError: somebody else published meanwhile.
        """
        earlier, center = self._find(version), self._center
        if not isinstance(center, ConfigPublisher):
            raise ConfigRestoreError(version)
        for where, state in zip(self._documents, earlier.documents, strict=True):
            await _restore(center, where, self._states[where], state)
        self.resume()

    # what comes from the center

    def _changed(self, where: DocumentId, state: State) -> None:
        self._reader.missed.discard(where)
        if state == self._states[where]:
            return
        self._states[where] = state
        self._save()
        try:
            model, data = self._layers.take(where, state)
        except InvalidConfigError as error:
            count("microservice.config.reloads", outcome="invalid")
            logger.error("%s; the last good version stays in force", error)  # noqa: TRY400
            return
        outcome = "applied" if self.pinned is None else "pinned"
        count("microservice.config.reloads", outcome=outcome)
        if self.pinned is None and data != self.version.data:
            self._enter(model, data, "center")
            logger.info("configuration %r changed", where.data_id)

    def _enter(
        self,
        model: ModelT,
        data: Mapping[str, object],
        origin: Origin,
        documents: tuple[State, ...] | None = None,
    ) -> ConfigVersion[ModelT]:
        states = documents or tuple(self._states[where] for where in self._documents)
        sources = {state.data_id: getattr(state, "md5", "") for state in states}
        self._made += 1
        md5, now = md5_of("\n".join(sources.values())), self._wall_clock()
        self.version = ConfigVersion(self._made, md5, sources, now, origin, model, data, states)
        self._versions.append(self.version)
        self.current = model
        self._tell_followers()
        self._watchers.notify("config", self.version)
        return self.version

    def _tell_followers(self) -> None:
        for follower in tuple(self._followers):
            try:
                follower()
            except Exception:
                logger.exception("a follower of the configuration failed; it stays")

    def _origin(self) -> Origin:
        if self._center is not None and self._reader.missed != set(self._documents):
            return "center"
        found = any(isinstance(state, ConfigResult) for state in self._states.values())
        return "snapshot" if found else "defaults"

    def _save(self) -> None:
        if self._snapshot is not None and not self._reader.missed:
            self._snapshot.save(self._states)

    def _at_home(self, where: DocumentId) -> DocumentId:
        group, namespace = self._home
        return DocumentId(where.data_id, where.group_name or group, where.namespace_id or namespace)

    def _compared(
        self, old: ConfigVersion[ModelT], new: ConfigVersion[ModelT]
    ) -> tuple[KeyChange, ...]:
        return compare(old.data, new.data, self._layers.secrets)

    def _find(self, version: int) -> ConfigVersion[ModelT]:
        for kept in self._versions:
            if kept.id == version:
                return kept
        ids = ", ".join(str(kept.id) for kept in self._versions)
        raise InvalidValueError("version", version, f"one that is kept: {ids}")


async def _restore(
    center: ConfigPublisher, where: DocumentId, present: State, earlier: State
) -> None:
    if isinstance(earlier, ConfigDeleted):
        if isinstance(present, ConfigResult):
            await center.delete_config(*where)
    elif isinstance(present, ConfigDeleted) or present.md5 != earlier.md5:
        await center.publish_config(
            where.data_id,
            earlier.content,
            *where[1:],
            content_type=earlier.content_type,
            expected_md5=present.md5 if isinstance(present, ConfigResult) else None,
        )
