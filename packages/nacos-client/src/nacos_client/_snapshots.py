"""Local copies of configuration documents, for outages, and those an operator placed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from ._keys import ConfigKey
from .errors import SnapshotError
from .models import Config

__all__ = ("FailoverFolder", "Snapshots", "find_default_snapshot_dir")

logger = logging.getLogger(__name__)


def find_default_snapshot_dir() -> str:
    """`nacos-client` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(cache) / "nacos-client")


class Snapshots:
    """One file per document, content and wrapped key together, readable by the owner only.

    Content is stored as received: encrypted content stays encrypted. A file is replaced as a whole
    or not at all. An empty folder name turns snapshots off.
    """

    def __init__(self, folder: str, servers: Iterable[str]) -> None:
        # Two Nacos with the same namespace must not serve each other's documents.
        origin = hashlib.sha256("\n".join(sorted(servers)).encode()).hexdigest()[:16]
        self._folder = Path(folder).expanduser() / origin if folder else None
        self._written: dict[ConfigKey, str] = {}
        self._write_failure_logged = False

    def get_path(self, key: ConfigKey) -> Path | None:
        """The file of the document's copy; None when snapshots are off."""
        if self._folder is None:
            return None
        parts = (quote(part, safe="") for part in (key.namespace, key.group, key.data_id))
        return self._folder.joinpath(*parts).with_name(f"{quote(key.data_id, safe='')}.json")

    def write(self, key: ConfigKey, config: Config) -> None:
        """Write a copy, if it differs from the last one written; a failure is only logged."""
        path = self.get_path(key)
        if path is None or self._written.get(key) == config.md5:
            return
        try:
            _write_atomically(path, _encode(config))
        except OSError as error:
            if not self._write_failure_logged:
                logger.warning("cannot write snapshots of the configuration: %s", error)
            self._write_failure_logged = True
        else:
            self._written[key] = config.md5

    def read(self, key: ConfigKey) -> Config | None:
        """The document's copy; None when there is none.

        Raises:
            SnapshotError: the file is damaged, or belongs to another document.
        """
        path = self.get_path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotError(f"snapshot {path} cannot be read ({error}); delete it") from error
        return _decode(key, data, path)

    def remove(self, key: ConfigKey) -> None:
        """Delete the copy of a document that the server no longer has."""
        path = self.get_path(key)
        self._written.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)


class FailoverFolder:
    """Documents placed by an operator, which take precedence over the server's.

    `folder/namespace/group/data_id`, plain UTF-8 text. An empty folder name turns it off.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None

    def read(self, key: ConfigKey) -> Config | None:
        """The operator's document; None when there is none.

        Raises:
            SnapshotError: the file is not UTF-8 or cannot be read.
        """
        if self._folder is None:
            return None
        path = self._folder / key.namespace / key.group / key.data_id
        try:
            content = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SnapshotError(
                f"failover file {path} is not usable: {error}; correct it"
            ) from error
        md5 = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
        return Config(key.data_id, key.group, key.namespace, content, md5, source="failover")


def _encode(config: Config) -> bytes:
    fields = {
        "namespace": config.namespace,
        "group": config.group,
        "data_id": config.data_id,
        "md5": config.md5,
        "content_type": config.content_type,
        "last_modified": config.last_modified.isoformat() if config.last_modified else None,
        "encrypted_data_key": config.encrypted_data_key,
        "content": config.content,
    }
    body = json.dumps(fields, ensure_ascii=False)
    return f"{_compute_checksum(body)}\n{body}".encode()


def _decode(key: ConfigKey, data: bytes, path: Path) -> Config:
    checksum, _, body = data.decode("utf-8", "replace").partition("\n")
    if checksum != _compute_checksum(body):
        raise SnapshotError(f"snapshot {path} is damaged or truncated; delete it")
    fields = json.loads(body)
    if (fields["namespace"], fields["group"], fields["data_id"]) != (
        key.namespace,
        key.group,
        key.data_id,
    ):
        raise SnapshotError(f"snapshot {path} belongs to another document; delete it")
    modified = fields["last_modified"]
    return Config(
        data_id=key.data_id,
        group=key.group,
        namespace=key.namespace,
        content=fields["content"],
        md5=fields["md5"],
        content_type=fields["content_type"],
        last_modified=datetime.fromisoformat(modified) if modified else None,
        encrypted_data_key=fields["encrypted_data_key"],
        source="snapshot",
    )


def _compute_checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
