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
    Delivery,
    InvalidValueError,
    Unsubscribe,
    Watchers,
    content_type_of,
    md5_of,
)

from .errors import PROVIDER, translate_engine_errors
from .json_folder import MAX_BYTES, DocumentKey, JsonFolder, StoredVersion, check_names

__all__ = ("JsonFolderConfigCenter",)

logger = logging.getLogger(__name__)

DocumentState = ConfigResult | ConfigDeleted


class _Reading(NamedTuple):
    """A document as it was read last."""

    number: int
    state: DocumentState


class JsonFolderConfigCenter:
    """Documents in a folder of JSON files; a change reaches its watchers within one poll.

    Nothing is touched before the first call, so that the caller's policy decides what happens when
    the folder does not exist.

    Args:
        folder: where the documents are; it has to exist at the first call.
        poll_seconds: time between two polls of a watched document.
        sleep: waits that many seconds.
        now: the time of a publication.

    Raises:
        InvalidValueError: an argument breaks a rule.
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
        self._watchers: Watchers[DocumentKey, DocumentState] = Watchers()
        self._readings: dict[DocumentKey, _Reading] = {}
        self._pollers: dict[DocumentKey, asyncio.Task[None]] = {}
        self._closed = False

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """Read a document.

        Raises:
            ConfigNotFoundError: it does not exist.
            ConfigCenterError: it cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        key = self._require_usable((namespace_id, group_name, data_id))
        state = (await self._read("get_config", key)).state
        if isinstance(state, ConfigDeleted):
            raise _create_not_found_error("get_config", data_id)
        return state

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change.

        While the folder cannot be read, the listener is not called.

        Raises:
            InvalidValueError: a name breaks a rule.
        """
        key = self._require_usable((namespace_id, group_name, data_id))
        delivery: Delivery[DocumentState]
        delivery, remove_delivery = self._watchers.add(key, listener)
        if key in self._readings:
            delivery.notify(self._readings[key].state)
        if key not in self._pollers:
            self._pollers[key] = asyncio.get_running_loop().create_task(self._poll(key))

        def unsubscribe() -> None:
            remove_delivery()
            if key not in self._watchers.keys():  # noqa: SIM118 - not a mapping
                self._stop_polling(key)

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
            ConfigConflictError: the present version is another than `expected_md5`.
            ConfigCenterError: it cannot be written.
            InvalidValueError: a name breaks a rule, or the content is larger than 10 MiB.
        """
        key = self._require_usable((namespace_id, group_name, data_id))
        size = len(content.encode())
        if size > MAX_BYTES:
            raise InvalidValueError("content", f"{size} bytes", f"at most {MAX_BYTES} bytes")
        kind = content_type or content_type_of(data_id)
        await self._write("publish_config", key, content, kind, expected_md5)

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Delete the document; its versions are kept.

        Raises:
            ConfigCenterError: it cannot be written.
            InvalidValueError: a name breaks a rule.
        """
        key = self._require_usable((namespace_id, group_name, data_id))
        if isinstance((await self._read("delete_config", key)).state, ConfigResult):
            await self._write("delete_config", key, None, "")

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """Return the versions that are kept, newest first, without deletions.

        Raises:
            ConfigCenterError: they cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        key = self._require_usable((namespace_id, group_name, data_id))
        return [
            ConfigVersion(str(version.number), md5_of(version.content), version.published_at)
            for version in await self._read_history("config_versions", key)
            if version.content is not None
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
        key = self._require_usable((namespace_id, group_name, data_id))
        for version in await self._read_history("restore_config", key):
            if str(version.number) == version_id and version.content is not None:
                await self._write("restore_config", key, version.content, version.content_type)
                return
        raise _create_not_found_error("restore_config", f"{data_id} version {version_id}")

    async def close(self) -> None:
        """End every watch; closing twice is fine."""
        self._closed = True
        pollers = [self._stop_polling(key) for key in tuple(self._pollers)]
        await asyncio.gather(*filter(None, pollers), return_exceptions=True)
        await self._watchers.aclose()

    def _require_usable(self, key: DocumentKey) -> DocumentKey:
        if self._closed:
            raise ConfigCenterError(
                "it is closed; open another one", provider=PROVIDER, operation="use"
            )
        check_names(key)
        return key

    async def _poll(self, key: DocumentKey) -> None:
        # An engine that reports changes itself: wait for its event here instead of sleeping.
        failing = False
        while True:
            try:
                reading = await self._read("watch_config", key, self._readings.get(key))
            except ConfigCenterError as error:
                if not failing:
                    logger.warning("%s; keeping the last known document", error)
                failing = True
            else:
                failing = False
                self._readings[key] = reading
                self._watchers.notify(key, reading.state)
            await self._sleep(self._poll_seconds)

    def _stop_polling(self, key: DocumentKey) -> asyncio.Task[None] | None:
        self._readings.pop(key, None)
        poller = self._pollers.pop(key, None)
        if poller is not None:
            poller.cancel()
        return poller

    async def _read(
        self, operation: str, key: DocumentKey, last: _Reading | None = None
    ) -> _Reading:
        """Read the newest version; `last` itself when it is still the newest."""
        with translate_engine_errors(operation, key[2]):
            if last and last.number == await asyncio.to_thread(self._engine.newest_number, key):
                return last
            return _create_reading(key, await asyncio.to_thread(self._engine.newest, key))

    async def _read_history(self, operation: str, key: DocumentKey) -> list[StoredVersion]:
        with translate_engine_errors(operation, key[2]):
            return await asyncio.to_thread(self._engine.versions, key)

    async def _write(
        self,
        operation: str,
        key: DocumentKey,
        content: str | None,
        content_type: str,
        expected_md5: str | None = None,
    ) -> None:
        """Write the next version, on top of `expected_md5` if one is passed."""
        is_written = False
        while not is_written:  # another writer was faster: read again
            before = await self._read(operation, key)
            if expected_md5 is not None and _md5_of_state(before.state) != expected_md5:
                raise ConfigConflictError(
                    "the document changed since it was read; read it again and publish on top",
                    provider=PROVIDER,
                    operation=operation,
                    target=key[2],
                )
            version = StoredVersion(before.number + 1, content, content_type, self._now())
            with translate_engine_errors(operation, key[2]):
                is_written = await asyncio.to_thread(self._engine.add, key, version)


def _create_reading(key: DocumentKey, stored: StoredVersion | None) -> _Reading:
    namespace_id, group_name, data_id = key
    if stored is None or stored.content is None:
        return _Reading(
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
    return _Reading(stored.number, result)


def _md5_of_state(state: DocumentState) -> str:
    return state.md5 if isinstance(state, ConfigResult) else ""


def _create_not_found_error(operation: str, target: str) -> ConfigNotFoundError:
    return ConfigNotFoundError(
        "it does not exist; publish it, or check data id, group and namespace",
        provider=PROVIDER,
        operation=operation,
        target=target,
    )
