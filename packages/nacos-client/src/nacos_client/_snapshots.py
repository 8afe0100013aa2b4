"""Local copies of configuration documents, for the time when no server answers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .errors import SnapshotError
from .models import Config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._config import ConfigKey

__all__ = ("FailoverFolder", "Snapshots", "default_snapshot_dir")

logger = logging.getLogger(__name__)


def default_snapshot_dir() -> str:
    """`nacos-client` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(cache) / "nacos-client")


class Snapshots:
    """One file per document, content and wrapped key together, readable by the owner only.

    Content is stored as the server gave it: what is encrypted stays encrypted. A file is replaced
    as a whole or not at all. An empty folder name turns snapshots off.
    """

    def __init__(self, folder: str, servers: Iterable[str]) -> None:
        # Two Nacos with the same namespace must not serve each other's documents.
        origin = hashlib.sha256("\n".join(sorted(servers)).encode()).hexdigest()[:16]
        self._folder = Path(folder).expanduser() / origin if folder else None
        self._written: dict[ConfigKey, str] = {}
        self._complained = False

    def path(self, key: ConfigKey) -> Path | None:
        """Where the document's copy is kept; None when snapshots are off."""
        if self._folder is None:
            return None
        parts = (quote(part, safe="") for part in (key.namespace, key.group, key.data_id))
        return self._folder.joinpath(*parts).with_name(f"{quote(key.data_id, safe='')}.json")

    def write(self, key: ConfigKey, config: Config) -> None:
        """Keep a copy, if it differs from the last one written. A full disk is only logged."""
        path = self.path(key)
        if path is None or self._written.get(key) == config.md5:
            return
        try:
            _replace(path, _document(config))
        except OSError as error:
            if not self._complained:
                logger.warning("no snapshots of configuration can be kept: %s", error)
            self._complained = True
        else:
            self._written[key] = config.md5

    def read(self, key: ConfigKey) -> Config | None:
        """The copy, or None when there is none.

        Raises:
            SnapshotError: the file is damaged, or belongs to another document.
        """
        path = self.path(key)
        if path is None:
            return None
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotError(f"snapshot {path} cannot be read ({error}); delete it") from error
        return _config(key, text, path)

    def remove(self, key: ConfigKey) -> None:
        """Forget a document that is known to be deleted."""
        path = self.path(key)
        self._written.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)


class FailoverFolder:
    """Documents an operator has laid down by hand; they win over every server.

    `folder/namespace/group/data_id`, plain UTF-8 text. An empty folder name turns it off.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None

    def read(self, key: ConfigKey) -> Config | None:
        """The document, or None when there is none.

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
            raise SnapshotError(f"failover file {path} is not usable: {error}; mend it") from error
        md5 = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
        return Config(key.data_id, key.group, key.namespace, content, md5, source="failover")


def _document(config: Config) -> bytes:
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
    return f"{_checksum(body)}\n{body}".encode()


def _config(key: ConfigKey, text: bytes, path: Path) -> Config:
    checksum, _, body = text.decode("utf-8", "replace").partition("\n")
    if checksum != _checksum(body):
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


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
