"""The md5 of every document of a namespace: what a watch of many documents compares."""

from __future__ import annotations

from typing import Any

from ._session import Session
from ._steps import Operation, Request
from .errors import UnexpectedAnswerError

__all__ = ("CONFIG_LIST", "LIST_PAGE_SIZE", "ConfigLists", "Md5s")

CONFIG_LIST = "/v3/admin/cs/config/list"
LIST_PAGE_SIZE = 500

Md5s = dict[tuple[str, str], str]  # (group, data id) to md5


class ConfigLists:
    """Lists namespaces through the admin API.

    It stands apart from the rest of that API, whose models take 0.1 s to import: a client that
    only watches does not need them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def read_md5s(self, namespace: str, max_pages: int) -> Operation[Md5s | None]:
        """The md5 of each document of a namespace; None when the list has too many pages.

        Raises:
            NacosError: no server responds, or the user may not list.
        """
        md5s: Md5s = {}
        page = 1
        while True:
            data = yield from self._read_page(namespace, page)
            pages = data["pagesAvailable"]
            if pages > max_pages:
                return None
            md5s |= {(e["groupName"], e["dataId"]): e["md5"] for e in data["pageItems"]}
            if page >= pages:
                return md5s
            page += 1

    def _read_page(self, namespace: str, page: int) -> Operation[Any]:
        query = {
            "dataId": "",
            "groupName": "",
            "namespaceId": namespace,
            "search": "blur",
            "pageNo": page,
            "pageSize": LIST_PAGE_SIZE,
        }
        request = Request("GET", CONFIG_LIST, query=query)
        data = yield from self._session.call(request)
        if not _is_page(data):
            raise UnexpectedAnswerError(
                request.operation, status=200, detail="data is not a page of documents"
            )
        return data


def _is_page(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("pagesAvailable"), int)
        and isinstance(data.get("pageItems"), list)
        and all(
            isinstance(entry, dict)
            and all(isinstance(entry.get(name), str) for name in ("groupName", "dataId", "md5"))
            for entry in data["pageItems"]
        )
    )
