"""A folder of documents as a configuration center: for one machine, a mounted ConfigMap, a demo."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .config import ConfigDeleted, ConfigListener, ConfigResult, content_type_of, md5_of
from .delivery import Delivery, Watchers
from .errors import (
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigNotFoundError,
    InvalidValueError,
)
from .providers import Settings, refuse_unknown_settings
from .registry import Unsubscribe

__all__ = ("FileConfigCenter",)

logger = logging.getLogger(__name__)

DocumentKey = tuple[str, str, str]
State = ConfigResult | ConfigDeleted
Stamp = tuple[int, int, int]

DEFAULT_GROUP = "DEFAULT_GROUP"
MAX_BYTES = 10 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]*")


@dataclass(slots=True)
class _Seen:
    """What the last looks at a watched file found."""

    believed: Stamp | None
    suspected: Stamp | None


class FileConfigCenter:
    """Documents are files of a folder; a changed file reaches its watchers within two looks.

    `app.yaml` of the default group is `folder/app.yaml`, of a group `folder/GROUP/app.yaml`, of a
    namespace `folder/NAMESPACE/GROUP/app.yaml` (`DEFAULT_GROUP` when none is named).

    A file that was replaced (written elsewhere, then renamed) is believed at once. One that is
    written in place, or is gone, is believed when the next look finds the same, so that no
    listener sees half of a save.

    Args:
        folder: where the documents lie; it may come into being later.
        poll_seconds: time between two looks at the watched files.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not poll_seconds > 0:
            raise InvalidValueError("poll_seconds", poll_seconds, "a number above 0")
        self._folder = Path(folder)
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._watchers: Watchers[DocumentKey, State] = Watchers()
        self._seen: dict[DocumentKey, _Seen] = {}
        self._poller: asyncio.Task[None] | None = None

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document as the file says now.

        Raises:
            ConfigNotFoundError: there is no such file.
            ConfigCenterUnavailableError: the file cannot be read.
            ConfigCenterError: it is not UTF-8, or larger than 10 MiB.
            InvalidValueError: a name that could leave the folder.
        """
        state = await asyncio.to_thread(self._read, (namespace_id, group_name, data_id))
        if isinstance(state, ConfigDeleted):
            raise ConfigNotFoundError(
                f"there is no file for it in {self._folder}; create it, or check the names",
                provider="file",
                operation="get_config",
                target=data_id,
            )
        return state

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change of the file.

        Raises:
            InvalidValueError: a name that could leave the folder.
        """
        key = (namespace_id, group_name, data_id)
        self._path(key)
        delivery: Delivery[State]
        delivery, unsubscribe = self._watchers.add(key, listener)
        stamp = _stamp(self._path(key))
        state = self._read_or_keep(key)
        if state is not None:
            delivery.offer(state)
        self._seen.setdefault(key, _Seen(stamp if state else None, None))
        if self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        return unsubscribe

    async def close(self) -> None:
        """End every watch and the poller."""
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.wait([poller])
        await self._watchers.aclose()
        self._seen.clear()

    async def _poll(self) -> None:
        while True:
            await self._sleep(self._poll_seconds)
            watched = self._watchers.keys()
            self._seen = {key: self._seen[key] for key in watched}
            for key in watched:
                self._look(key, self._seen[key])

    def _look(self, key: DocumentKey, seen: _Seen) -> None:
        stamp = _stamp(self._path(key))
        if stamp == seen.believed:
            seen.suspected = stamp
            return
        replaced = stamp and seen.believed and stamp[0] != seen.believed[0]
        if not replaced and stamp != seen.suspected:
            seen.suspected = stamp
            return
        state = self._read_or_keep(key)
        if _stamp(self._path(key)) != stamp:
            return  # written to while it was read
        seen.believed = stamp
        if state is not None:
            self._watchers.offer(key, state)

    def _read_or_keep(self, key: DocumentKey) -> State | None:
        try:
            return self._read(key)
        except ConfigCenterError as error:
            logger.warning("%s; the last good version stays in force", error)
            return None

    def _read(self, key: DocumentKey) -> State:
        namespace_id, group_name, data_id = key
        path = self._path(key)
        try:
            raw = path.read_bytes()
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (FileNotFoundError, NotADirectoryError):
            return ConfigDeleted(data_id, group_name, namespace_id)
        except OSError as error:
            raise ConfigCenterUnavailableError(
                f"{path} cannot be read ({error.strerror}); check its kind and permissions",
                provider="file",
                operation="get_config",
                target=data_id,
                retryable=True,
            ) from error
        content = _decode(raw, path, data_id)
        return ConfigResult(
            content=content,
            md5=md5_of(content),
            last_modified=modified,
            content_type=content_type_of(data_id),
            data_id=data_id,
            group_name=group_name,
            namespace_id=namespace_id,
        )

    def _path(self, key: DocumentKey) -> Path:
        namespace_id, group_name, data_id = key
        for field, name in (("namespace_id", namespace_id), ("group_name", group_name)):
            if name:
                _check_name(field, name)
        _check_name("data_id", data_id)
        if namespace_id:
            return self._folder / namespace_id / (group_name or DEFAULT_GROUP) / data_id
        return self._folder / group_name / data_id if group_name else self._folder / data_id


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        rule = "letters, digits and _ - : . and no leading dot"
        raise InvalidValueError(field, name, rule)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _decode(raw: bytes, path: Path, data_id: str) -> str:
    if len(raw) > MAX_BYTES:
        problem = f"{path} is larger than 10 MiB; split it"
    else:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            problem = f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8"
    raise ConfigCenterError(problem, provider="file", operation="get_config", target=data_id)


@asynccontextmanager
async def config_center(settings: Settings) -> AsyncIterator[FileConfigCenter]:
    """Provider `file` of the port `config_center`; settings: `folder`, `poll_seconds`."""
    refuse_unknown_settings("file", settings, ("folder", "poll_seconds"))
    folder, poll_seconds = settings.get("folder"), settings.get("poll_seconds", 1.0)
    if not isinstance(folder, str | Path) or not str(folder):
        raise InvalidValueError("folder", folder, "the path of a folder of documents")
    if not isinstance(poll_seconds, int | float):
        raise InvalidValueError("poll_seconds", poll_seconds, "a number above 0")
    center = FileConfigCenter(folder, poll_seconds=poll_seconds)
    try:
        yield center
    finally:
        await center.close()
