"""The fake's search, history and transfer of documents."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

from ._config_api import parse_key
from ._documents import Document, Documents, HistoryEntry, Key
from ._wire import FakeRequest, FakeResponse, build_failure, build_page, build_success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("ConfigAdminRoutes",)

_METADATA = ".metadata.yml"
_NOTHING_STORED = {"succCount": 0, "skipCount": 0}


class ConfigAdminRoutes:
    """Handles searches, history, import, export and clone as the server does."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def build_routes(self) -> dict[tuple[str, str], Callable[[FakeRequest], FakeResponse]]:
        """Method and path to handler."""
        return {
            ("GET", "/v3/admin/cs/config/list"): self._search,
            ("GET", "/v3/admin/cs/config/export"): self._export,
            ("POST", "/v3/admin/cs/config/import"): self._import,
            ("POST", "/v3/admin/cs/config/clone"): self._clone,
            ("GET", "/v3/admin/cs/history/list"): self._list_history,
            ("GET", "/v3/admin/cs/history"): self._read_version,
        }

    def _search(self, request: FakeRequest) -> FakeResponse:
        namespace = request.get("namespaceId", "public")
        kinds = [kind for kind in request.get("type").split(",") if kind]
        summaries = [
            _render_summary(key, document)
            for key, document in sorted(self._documents.stored.items())
            if key[0] == namespace
            and _matches(request.get("groupName"), key[1])
            and _matches(request.get("dataId"), key[2])
            and (not kinds or document.type in kinds)
            and request.get("appName") in {"", document.app}
            and set(filter(None, request.get("configTags").split(",")))
            <= set(document.tags.split(","))
        ]
        return build_page(request, summaries)

    def _list_history(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName")
        key = parse_key(request)
        newest_first = reversed([each for each in self._documents.history if each.key == key])
        return build_page(request, [_render_entry(each) for each in newest_first])

    def _read_version(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName", "nid")
        for each in self._documents.history:
            if str(each.number) == request.get("nid"):
                content = each.document.content
                extra = {"type": each.document.type, "src_user": "nacos"}
                more = {
                    "md5": each.document.md5,
                    "content": content,
                    "encryptedDataKey": each.document.encrypted_data_key,
                    "grayName": "",
                    "extInfo": json.dumps(extra),
                }
                return build_success({**_render_entry(each), **more})
        return build_failure(400, 20002, "parameter validate error", "Source must not be null")

    def _export(self, request: FakeRequest) -> FakeResponse:
        selected = set(request.get("ids").split(","))
        file = io.BytesIO()
        described = ["metadata:"]
        with zipfile.ZipFile(file, "w") as archive:
            for (_, group, data_id), document in self._documents.stored.items():
                if str(document.config_id) in selected:
                    archive.writestr(f"{group}/{data_id}", document.content)
                    described += [
                        f"- appName: {document.app}",
                        f"  dataId: {data_id}",
                        f"  desc: {document.desc}",
                        f"  group: {group}",
                        f"  type: {document.type}",
                    ]
            archive.writestr(_METADATA, "\n".join(described) + "\n")
        return FakeResponse(200, file.getvalue(), {"content-type": "application/octet-stream"})

    def _import(self, request: FakeRequest) -> FakeResponse:
        payload = request.body.split(b"\r\n\r\n", 1)[-1].rpartition(b"\r\n--")[0]
        try:
            with zipfile.ZipFile(io.BytesIO(payload)) as archive:
                if _METADATA not in archive.namelist():
                    return build_failure(200, 100002, "metadata illegal", _NOTHING_STORED)
                files = {
                    name: archive.read(name).decode()
                    for name in archive.namelist()
                    if name != _METADATA
                }
        except zipfile.BadZipFile:
            return build_failure(200, 100003, "parsing data failed", _NOTHING_STORED)
        namespace = request.get("namespaceId", "public")
        keys = ((namespace, *name.split("/", 1)) for name in files)
        now = _build_documents(keys, files.values())
        return self._store_all(now, request.get("policy"))

    def _clone(self, request: FakeRequest) -> FakeResponse:
        by_id = {each.config_id: each for each in self._documents.stored.values()}
        namespace = request.get("namespaceId", "public")
        selected: dict[Key, Document] = {}
        for item in json.loads(request.body):
            document = by_id.get(item["configId"])
            if document is not None:
                selected[namespace, item["targetGroupName"], item["targetDataId"]] = document
        if not selected:
            return build_failure(200, 100005, "Imported file data is empty", _NOTHING_STORED)
        return self._store_all(selected, request.get("policy"))

    def _store_all(self, documents: dict[Key, Document], policy: str) -> FakeResponse:
        stored, skipped, failed = 0, 0, []
        for key, document in documents.items():
            exists = key in self._documents.stored
            if exists and policy == "SKIP":
                skipped += 1
            elif exists and policy != "OVERWRITE":
                failed.append({"dataId": key[2], "group": key[1]})
                break
            else:
                self._documents.write(key, document)
                stored += 1
        counts: dict[str, Any] = {"succCount": stored, "skipCount": skipped}
        if failed:
            counts["failData"] = failed
        return build_success(counts)


def _build_documents(
    keys: Iterable[tuple[str, ...]], contents: Iterable[str]
) -> dict[Key, Document]:
    return {
        (key[0], key[1], key[2]): Document(content, key[2].rpartition(".")[2], 1, 1)
        for key, content in zip(keys, contents, strict=True)
    }


def _matches(pattern: str, name: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*")
    return not pattern or re.fullmatch(expression, name) is not None


def _render_summary(key: Key, document: Document) -> dict[str, Any]:
    return {
        "id": str(document.config_id),
        "namespaceId": key[0],
        "groupName": key[1],
        "dataId": key[2],
        "md5": document.md5,
        "type": document.type,
        "appName": document.app,
        "createTime": 0,
        "modifyTime": 0,
    }


def _render_entry(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "id": str(entry.number),
        "namespaceId": entry.key[0],
        "groupName": entry.key[1],
        "dataId": entry.key[2],
        "md5": None,
        "type": None,
        "appName": entry.document.app,
        "modifyTime": entry.at_ms,
        "srcIp": "127.0.0.1",
        "srcUser": "nacos",
        # The real server's column is ten characters wide.
        "opType": entry.operation.ljust(10),
        "publishType": entry.publish_type,
    }
