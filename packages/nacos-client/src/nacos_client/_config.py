"""Read configuration documents: operations without I/O, used by `get` and by every watch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import _names as names
from ._steps import Operation, Request, Sleep
from .ciphers import decrypted
from .errors import (
    ConfigNotFound,
    NacosError,
    ServerError,
    ServerUnavailableError,
    SnapshotError,
    UnexpectedAnswerError,
)
from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._session import Session
    from ._snapshots import FailoverFolder, Snapshots
    from .ciphers import ConfigCipher

__all__ = ("ConfigKey", "ConfigOperations")

logger = logging.getLogger(__name__)

CONFIRM_SECONDS = 0.15
DEFAULT_GROUP = "DEFAULT_GROUP"


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """Which document."""

    namespace: str
    group: str
    data_id: str

    @classmethod
    def checked(cls, data_id: str, group: str, namespace: str) -> ConfigKey:
        """A key whose parts Nacos would accept.

        Raises:
            InvalidArgumentError: one of them is not allowed.
        """
        return cls(names.namespace(namespace), names.group(group), names.data_id(data_id))

    def parameters(self) -> dict[str, object]:
        """As the API wants them."""
        return {"dataId": self.data_id, "groupName": self.group, "namespaceId": self.namespace}


class ConfigOperations:
    """What can be asked about a document.

    A document of the failover folder wins over the server's. While no server answers, the local
    snapshot does.
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
        self._on_snapshots = False

    def get(self, key: ConfigKey) -> Operation[Config]:
        """The document now.

        Raises:
            ConfigNotFound: two reads in a row did not find it.
            SnapshotError: no server answered, and the local copy cannot be trusted.
            CipherError: it is encrypted and cannot be decrypted.
        """
        stored = self._failover.read(key)
        if stored is None:
            stored = yield from self._stored(key)
        return decrypted(self._ciphers, stored)

    def present(self, key: ConfigKey) -> Operation[Config | ConfigDeleted]:
        """The document now, or that there is none."""
        try:
            return (yield from self.get(key))
        except ConfigNotFound:
            return ConfigDeleted(key.data_id, key.group, key.namespace)

    def _stored(self, key: ConfigKey) -> Operation[Config]:
        """The document as the server has it, or the copy of what it had."""
        try:
            config = yield from self._confirmed(key)
        except ConfigNotFound:
            self._snapshots.remove(key)
            raise
        except (ServerUnavailableError, ServerError) as outage:
            return self._copy(key, outage)
        if self._on_snapshots:
            self._on_snapshots = False
            logger.info("configuration comes from the server again")
        self._snapshots.write(key, config)
        return config

    def _copy(self, key: ConfigKey, outage: NacosError) -> Config:
        try:
            copy = self._snapshots.read(key)
        except SnapshotError as damaged:
            raise damaged from outage
        if copy is None:
            raise outage
        if not self._on_snapshots:
            self._on_snapshots = True
            logger.warning("no Nacos server answers: configuration comes from local snapshots")
        return copy

    def _confirmed(self, key: ConfigKey) -> Operation[Config]:
        try:
            return (yield from self._read(key))
        except ConfigNotFound:
            # 20004 also means "being published right now" and "disk error": ask again.
            yield Sleep(CONFIRM_SECONDS)
            return (yield from self._read(key))

    def _read(self, key: ConfigKey) -> Operation[Config]:
        request = Request("GET", "/v3/client/cs/config", query=key.parameters())
        data = yield from self._session.call(request)
        return config_from(key, data)


def config_from(key: ConfigKey, data: Mapping[str, Any]) -> Config:
    """A document from the client API's `data`."""
    content, md5 = (data.get("content"), data.get("md5")) if isinstance(data, dict) else ("", None)
    if not isinstance(content, str) or not isinstance(md5, str):
        raise UnexpectedAnswerError(
            "GET /v3/client/cs/config", status=200, detail="data without content and md5"
        )
    return Config(
        data_id=key.data_id,
        group=key.group,
        namespace=key.namespace,
        content=content,
        md5=md5,
        content_type=data.get("contentType") or "text",
        last_modified=moment(data.get("lastModified")),
        beta=bool(data.get("beta")),
        encrypted_data_key=data.get("encryptedDataKey") or "",
    )


def moment(milliseconds: object) -> datetime | None:
    """A time in UTC from Nacos' milliseconds; None when there is none."""
    if not isinstance(milliseconds, int) or milliseconds <= 0:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
