"""Administer documents and services: operations without I/O on the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _names as names
from ._steps import Operation, Request

if TYPE_CHECKING:
    from ._config import ConfigKey
    from ._session import Session

__all__ = ("AdminOperations",)

CONFIG = "/v3/admin/cs/config"
TYPES = {"yml": "yaml", "htm": "html"} | {
    each: each for each in ("json", "xml", "yaml", "html", "properties", "toml")
}


def type_of(data_id: str) -> str:
    """The type a data id's ending stands for; `text` when it says nothing."""
    return TYPES.get(data_id.rpartition(".")[2].lower(), "text")


class AdminOperations:
    """What can be administered. Needs admin permissions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def publish(
        self, key: ConfigKey, content: str, *, kind: str, cas_md5: str | None
    ) -> Operation[None]:
        """Create or replace a document.

        Raises:
            ConflictError: `cas_md5` is not the server's md5.
        """
        form = {**key.parameters(), "content": names.content(content), "type": kind}
        headers = {"casMd5": cas_md5} if cas_md5 else {}
        request = Request("POST", CONFIG, form=form, headers=headers, repeat="unsent")
        yield from self._session.call(request)

    def delete(self, key: ConfigKey) -> Operation[None]:
        """Delete a document; one that is not there is no error."""
        yield from self._session.call(Request("DELETE", CONFIG, query=key.parameters()))

    def services(self, namespace: str, group: str) -> Operation[list[str]]:
        """The names of all services of a group, sorted."""
        found: list[str] = []
        page = 1
        while True:
            query = {
                "namespaceId": names.namespace(namespace),
                "groupNameParam": group or None,
                "pageNo": page,
                "pageSize": 500,
            }
            data = yield from self._session.call(
                Request("GET", "/v3/admin/ns/service/list", query=query)
            )
            found += [e["name"] for e in data["pageItems"] if e["groupName"] == group or not group]
            if page >= data["pagesAvailable"]:
                return sorted(found)
            page += 1
