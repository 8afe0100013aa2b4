"""Read configuration documents: operations without I/O, used by `get` and by every watch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ._keys import ConfigKey
from ._responses import read_milliseconds
from ._session import Session
from ._snapshots import FailoverFolder, Snapshots
from ._steps import Operation, Request, Sleep
from .ciphers import ConfigCipher, decrypt_config
from .errors import (
    ConfigNotFound,
    NacosError,
    ServerError,
    ServerUnavailableError,
    SnapshotError,
    UnexpectedAnswerError,
)
from .models import Config, ConfigDeleted

__all__ = ("ConfigOperations",)

logger = logging.getLogger(__name__)

_CONFIRM_SECONDS = 0.15


class ConfigOperations:
    """Reads documents.

    A document of the failover folder takes precedence over the server's. While no server
    responds, the local snapshot is returned.
    """

    def __init__(
        self,
        session: Session,
        snapshots: Snapshots,
        failover: FailoverFolder,
        ciphers: Sequence[ConfigCipher],
    ) -> None:
        self._session = session
        self._snapshots = snapshots
        self._failover = failover
        self._ciphers = tuple(ciphers)
        self._uses_snapshots = False

    def get(self, key: ConfigKey) -> Operation[Config]:
        """The document now, decrypted.

        Raises:
            ConfigNotFound: two reads in a row did not find it.
            SnapshotError: no server responded, and the local copy is damaged.
            CipherError: it is encrypted and cannot be decrypted.
        """
        config = self._failover.read(key)
        if config is None:
            config = yield from self._read_or_use_snapshot(key)
        return decrypt_config(self._ciphers, config)

    def get_state(self, key: ConfigKey) -> Operation[Config | ConfigDeleted]:
        """The document now, or that it does not exist.

        Raises:
            NacosError: as `get` does, except for ConfigNotFound.
        """
        try:
            return (yield from self.get(key))
        except ConfigNotFound:
            return ConfigDeleted(key.data_id, key.group, key.namespace)

    def _read_or_use_snapshot(self, key: ConfigKey) -> Operation[Config]:
        try:
            config = yield from self._read_confirmed(key)
        except ConfigNotFound:
            self._snapshots.remove(key)
            raise
        except (ServerUnavailableError, ServerError) as outage:
            return self._read_snapshot(key, outage)
        if self._uses_snapshots:
            self._uses_snapshots = False
            logger.info("configuration comes from the server again")
        self._snapshots.write(key, config)
        return config

    def _read_snapshot(self, key: ConfigKey, outage: NacosError) -> Config:
        try:
            copy = self._snapshots.read(key)
        except SnapshotError as damage:
            raise damage from outage
        if copy is None:
            raise outage
        if not self._uses_snapshots:
            self._uses_snapshots = True
            logger.warning("no Nacos server responds: configuration comes from local snapshots")
        return copy

    def _read_confirmed(self, key: ConfigKey) -> Operation[Config]:
        try:
            return (yield from self._read(key))
        except ConfigNotFound:
            # 20004 also means "being published right now" and "disk error": read again.
            yield Sleep(_CONFIRM_SECONDS)
            return (yield from self._read(key))

    def _read(self, key: ConfigKey) -> Operation[Config]:
        request = Request("GET", "/v3/client/cs/config", query=key.to_parameters())
        data = yield from self._session.call(request)
        return _parse_config(key, data, request.operation)


def _parse_config(key: ConfigKey, data: Any, operation: str) -> Config:
    fields = data if isinstance(data, dict) else {}
    content, md5 = fields.get("content"), fields.get("md5")
    if not isinstance(content, str) or not isinstance(md5, str):
        raise UnexpectedAnswerError(operation, status=200, detail="data without content and md5")
    return Config(
        data_id=key.data_id,
        group=key.group,
        namespace=key.namespace,
        content=content,
        md5=md5,
        content_type=str(fields.get("contentType") or "text"),
        last_modified=read_milliseconds(fields.get("lastModified")),
        beta=bool(fields.get("beta")),
        encrypted_data_key=str(fields.get("encryptedDataKey") or ""),
    )
