"""A folder of files as a configuration center: for one machine, a mounted ConfigMap, a demo."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ._supervision import TaskSupervisor
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
Stamp = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size

_DEFAULT_GROUP = "DEFAULT_GROUP"
_MAX_BYTES = 10 * 1024 * 1024
_POLL = "poll"
_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]*")


@dataclass(slots=True)
class _WatchedFile:
    """What polling has found out about a watched file.

    Attributes:
        confirmed: the stamp of the state that the listeners have; None if the file was missing.
        unconfirmed: another stamp, found by the last poll.
    """

    confirmed: Stamp | None
    unconfirmed: Stamp | None


class FileConfigCenter:
    """Documents are files in a folder; listeners are notified of a change within two polls.

    `app.yaml` of the default group is `folder/app.yaml`, of a group `folder/GROUP/app.yaml`, of a
    namespace `folder/NAMESPACE/GROUP/app.yaml` (with `DEFAULT_GROUP` if no group is named).

    A file that was replaced (written elsewhere, then renamed) takes effect at once. A file that was
    written in place, or deleted, takes effect when the next poll finds the same, so that no
    listener receives a file that is only half written.

    Args:
        folder: of the documents; it need not exist yet.
        poll_seconds: time between two polls of the watched files.
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
        self._files: dict[DocumentKey, _WatchedFile] = {}
        self._tasks = TaskSupervisor(f"files of {folder}", sleep=sleep)

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The present content of the file.

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
        delivery, remove = self._watchers.add(key, listener)
        stamp = _stamp(self._path(key))
        state = self._try_read(key)
        if state is not None:
            delivery.notify(state)
        self._files.setdefault(key, _WatchedFile(stamp if state else None, None))
        if _POLL not in self._tasks.running:
            self._tasks.start(_POLL, self._poll)

        def unsubscribe() -> None:
            remove()
            if not self._watchers.keys():
                self._tasks.cancel(_POLL)
                self._files.clear()

        return unsubscribe

    async def close(self) -> None:
        """End every watch and the polling."""
        await self._tasks.stop(_POLL)
        await self._watchers.aclose()
        self._files.clear()

    async def _poll(self) -> None:
        while True:
            await self._sleep(self._poll_seconds)
            watched = self._watchers.keys()
            self._files = {key: self._files[key] for key in watched}
            for key in watched:
                self._poll_file(key, self._files[key])

    def _poll_file(self, key: DocumentKey, file: _WatchedFile) -> None:
        stamp = _stamp(self._path(key))
        if stamp == file.confirmed:
            file.unconfirmed = stamp
            return
        # Another inode: the file was written completely before it was renamed to this name.
        replaced = stamp and file.confirmed and stamp[0] != file.confirmed[0]
        if not replaced and stamp != file.unconfirmed:
            file.unconfirmed = stamp
            return
        state = self._try_read(key)
        if _stamp(self._path(key)) != stamp:
            return  # it was written to while it was read
        file.confirmed = stamp
        if state is not None:
            self._watchers.notify(key, state)

    def _try_read(self, key: DocumentKey) -> State | None:
        """The present state; None, and a log line, if the file cannot be read."""
        try:
            return self._read(key)
        except ConfigCenterError as error:
            logger.warning("%s; keeping the last valid version", error)
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
                f"{path} cannot be read ({error.strerror}); check its type and permissions",
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
                _validate_name(field, name)
        _validate_name("data_id", data_id)
        if namespace_id:
            return self._folder / namespace_id / (group_name or _DEFAULT_GROUP) / data_id
        return self._folder / group_name / data_id if group_name else self._folder / data_id


def _validate_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        rule = "letters, digits and _ - : . and no leading dot"
        raise InvalidValueError(field, name, rule)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _decode(raw: bytes, path: Path, data_id: str) -> str:
    if len(raw) > _MAX_BYTES:
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
