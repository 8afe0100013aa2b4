"""The port on the engine: reading, watching, publishing, history. Mostly to KEEP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from microservice_core import (
    ConfigCenterError,
    ConfigConflictError,
    ConfigDeleted,
    ConfigListener,
    ConfigNotFoundError,
    ConfigResult,
    ConfigVersion,
    InvalidValueError,
    Unsubscribe,
    content_type_of,
    md5_of,
)
from microservice_core import Delivery, Watchers

from .errors import PROVIDER, as_config_center_errors
from .json_folder import MOST_BYTES, DocumentKey, JsonFolder, StoredVersion, check_names

__all__ = ("JsonFolderConfigCenter",)

logger = logging.getLogger(__name__)

State = ConfigResult | ConfigDeleted


class _Seen(NamedTuple):
    number: int
    state: State


class JsonFolderConfigCenter:
    """Documents in a folder of JSON files; a change reaches its watchers within one poll.

    Nothing is touched before the first call, so that the policy of whoever opens it decides what
    happens when the folder is not there.

    Args:
        folder: where the documents lie; it has to exist when something is asked.
        poll_seconds: time between two looks at a watched document.
        sleep: waits that many seconds.
        now: the time, for what is published.

    Raises:
        InvalidValueError: naming the argument and its rule.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not poll_seconds > 0:
            raise InvalidValueError("poll_seconds", poll_seconds, "a number above 0")
        self._engine = JsonFolder(Path(folder))
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._now = now
        self._watchers: Watchers[DocumentKey, State] = Watchers()
        self._seen: dict[DocumentKey, _Seen] = {}
        self._followers: dict[DocumentKey, asyncio.Task[None]] = {}
        self._closed = False

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document now.

        Raises:
            ConfigNotFoundError: there is none.
            ConfigCenterError: it cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        key = self._usable((namespace_id, group_name, data_id))
        state = (await self._read("get_config", key)).state
        if isinstance(state, ConfigDeleted):
            raise _not_found("get_config", data_id)
        return state

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change.

        While the folder cannot be read, the listener keeps what it was told last.

        Raises:
            InvalidValueError: a name breaks a rule.
        """
        key = self._usable((namespace_id, group_name, data_id))
        delivery: Delivery[State]
        delivery, remove = self._watchers.add(key, listener)
        if key in self._seen:
            delivery.notify(self._seen[key].state)
        if key not in self._followers:
            self._followers[key] = asyncio.get_running_loop().create_task(self._follow(key))

        def unsubscribe() -> None:
            remove()
            if key not in self._watchers.keys():  # noqa: SIM118 - not a mapping
                self._stop_following(key)

        return unsubscribe

    async def publish_config(
        self,
        data_id: str,
        content: str,
        group_name: str = "",
        namespace_id: str = "",
        *,
        content_type: str = "",
        expected_md5: str | None = None,
    ) -> None:
        """Create or replace the document.

        Raises:
            ConfigConflictError: another version than `expected_md5` is there.
            ConfigCenterError: it cannot be written.
            InvalidValueError: a name breaks a rule, or the content is larger than 10 MiB.
        """
        key = self._usable((namespace_id, group_name, data_id))
        size = len(content.encode())
        if size > MOST_BYTES:
            raise InvalidValueError("content", f"{size} bytes", f"at most {MOST_BYTES} bytes")
        kind = content_type or content_type_of(data_id)
        await self._write("publish_config", key, content, kind, expected_md5)

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Remove the document; its versions stay known.

        Raises:
            ConfigCenterError: it cannot be written.
            InvalidValueError: a name breaks a rule.
        """
        key = self._usable((namespace_id, group_name, data_id))
        if isinstance((await self._read("delete_config", key)).state, ConfigResult):
            await self._write("delete_config", key, None, "")

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """The versions kept, newest first; deletions are none.

        Raises:
            ConfigCenterError: they cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        key = self._usable((namespace_id, group_name, data_id))
        return [
            ConfigVersion(str(one.number), md5_of(one.content), one.published_at)
            for one in await self._history("config_versions", key)
            if one.content is not None
        ]

    async def restore_config(
        self, data_id: str, version_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Publish that version again.

        Raises:
            ConfigNotFoundError: there is no such version.
            ConfigCenterError: it cannot be read or written.
            InvalidValueError: a name breaks a rule.
        """
        key = self._usable((namespace_id, group_name, data_id))
        for one in await self._history("restore_config", key):
            if str(one.number) == version_id and one.content is not None:
                await self._write("restore_config", key, one.content, one.content_type)
                return
        raise _not_found("restore_config", f"{data_id} version {version_id}")

    async def close(self) -> None:
        """End every watch; twice is fine."""
        self._closed = True
        followers = [self._stop_following(key) for key in tuple(self._followers)]
        await asyncio.gather(*filter(None, followers), return_exceptions=True)
        await self._watchers.aclose()

    def _usable(self, key: DocumentKey) -> DocumentKey:
        if self._closed:
            raise ConfigCenterError(
                "it is closed; open another one", provider=PROVIDER, operation="use"
            )
        check_names(key)
        return key

    async def _follow(self, key: DocumentKey) -> None:
        # With an engine that tells of changes, wait for its event here instead of sleeping.
        failing = False
        while True:
            try:
                seen = await self._read("watch_config", key, self._seen.get(key))
            except ConfigCenterError as error:
                if not failing:
                    logger.warning("%s; what was seen last stays in force", error)
                failing = True
            else:
                failing = False
                self._seen[key] = seen
                self._watchers.notify(key, seen.state)
            await self._sleep(self._poll_seconds)

    def _stop_following(self, key: DocumentKey) -> asyncio.Task[None] | None:
        self._seen.pop(key, None)
        follower = self._followers.pop(key, None)
        if follower is not None:
            follower.cancel()
        return follower

    async def _read(self, operation: str, key: DocumentKey, seen: _Seen | None = None) -> _Seen:
        """What is in force; `seen` itself when that is still it."""
        with as_config_center_errors(operation, key[2]):
            if seen and seen.number == await asyncio.to_thread(self._engine.newest_number, key):
                return seen
            return _seen(key, await asyncio.to_thread(self._engine.newest, key))

    async def _history(self, operation: str, key: DocumentKey) -> list[StoredVersion]:
        with as_config_center_errors(operation, key[2]):
            return await asyncio.to_thread(self._engine.versions, key)

    async def _write(
        self,
        operation: str,
        key: DocumentKey,
        content: str | None,
        content_type: str,
        expected_md5: str | None = None,
    ) -> None:
        """Write the next version, on top of `expected_md5` when that is given."""
        written = False
        while not written:  # somebody else was faster: look again
            before = await self._read(operation, key)
            if expected_md5 is not None and _md5(before.state) != expected_md5:
                raise ConfigConflictError(
                    "the document changed since it was read; read it again and publish on top",
                    provider=PROVIDER,
                    operation=operation,
                    target=key[2],
                )
            version = StoredVersion(before.number + 1, content, content_type, self._now())
            with as_config_center_errors(operation, key[2]):
                written = await asyncio.to_thread(self._engine.add, key, version)


def _seen(key: DocumentKey, stored: StoredVersion | None) -> _Seen:
    namespace_id, group_name, data_id = key
    if stored is None or stored.content is None:
        return _Seen(
            stored.number if stored else 0, ConfigDeleted(data_id, group_name, namespace_id)
        )
    result = ConfigResult(
        content=stored.content,
        md5=md5_of(stored.content),  # or your engine's own fingerprint of the content
        last_modified=stored.published_at,
        content_type=stored.content_type,
        data_id=data_id,
        group_name=group_name,
        namespace_id=namespace_id,
    )
    return _Seen(stored.number, result)


def _md5(state: State) -> str:
    return state.md5 if isinstance(state, ConfigResult) else ""


def _not_found(operation: str, target: str) -> ConfigNotFoundError:
    return ConfigNotFoundError(
        "it is not there; publish it, or check data id, group and namespace",
        provider=PROVIDER,
        operation=operation,
        target=target,
    )
