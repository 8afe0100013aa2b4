"""Read configuration documents: operations without I/O, used by `get` and by every watch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import _names as names
from ._steps import Operation, Request, Sleep
from .errors import ConfigNotFound, UnexpectedAnswerError
from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._session import Session

__all__ = ("ConfigKey", "ConfigOperations")

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
    """What can be asked about a document."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, key: ConfigKey) -> Operation[Config]:
        """The document now.

        Raises:
            ConfigNotFound: two reads in a row did not find it.
        """
        try:
            return (yield from self._read(key))
        except ConfigNotFound:
            # 20004 also means "being published right now" and "disk error": ask again.
            yield Sleep(CONFIRM_SECONDS)
            return (yield from self._read(key))

    def present(self, key: ConfigKey) -> Operation[Config | ConfigDeleted]:
        """The document now, or that there is none."""
        try:
            return (yield from self.get(key))
        except ConfigNotFound:
            return ConfigDeleted(key.data_id, key.group, key.namespace)

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
