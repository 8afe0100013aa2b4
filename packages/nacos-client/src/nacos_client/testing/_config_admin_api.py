"""The fake's lists, history and transfer of documents."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

from ._config_api import key_of
from ._documents import Document, Documents, Entry, Key
from ._wire import Call, Reply, failure, page_of, success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("ConfigAdminRoutes",)

METADATA = ".metadata.yml"
NOTHING = {"succCount": 0, "skipCount": 0}


class ConfigAdminRoutes:
    """Searches, history, import, export and clone as the server does them."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def table(self) -> dict[tuple[str, str], Callable[[Call], Reply]]:
        """Method and path to handler."""
        return {
            ("GET", "/v3/admin/cs/config/list"): self._search,
            ("GET", "/v3/admin/cs/config/export"): self._export,
            ("POST", "/v3/admin/cs/config/import"): self._import,
            ("POST", "/v3/admin/cs/config/clone"): self._clone,
            ("GET", "/v3/admin/cs/history/list"): self._history,
            ("GET", "/v3/admin/cs/history"): self._version,
        }

    def _search(self, call: Call) -> Reply:
        namespace = call.get("namespaceId", "public")
        kinds = [kind for kind in call.get("type").split(",") if kind]
        found = [
            _summary(key, document)
            for key, document in sorted(self._documents.stored.items())
            if key[0] == namespace
            and _fits(call.get("groupName"), key[1])
            and _fits(call.get("dataId"), key[2])
            and (not kinds or document.type in kinds)
            and call.get("appName") in {"", document.app}
            and set(filter(None, call.get("configTags").split(",")))
            <= set(document.tags.split(","))
        ]
        return page_of(call, found)

    def _history(self, call: Call) -> Reply:
        call.need("dataId", "groupName")
        key = key_of(call)
        newest_first = reversed([each for each in self._documents.history if each.key == key])
        return page_of(call, [_entry(each) for each in newest_first])

    def _version(self, call: Call) -> Reply:
        call.need("dataId", "groupName", "nid")
        for each in self._documents.history:
            if str(each.number) == call.get("nid"):
                content = each.document.content
                extra = {"type": each.document.type, "src_user": "nacos"}
                more = {
                    "md5": each.document.md5,
                    "content": content,
                    "encryptedDataKey": each.document.encrypted_data_key,
                    "grayName": "",
                    "extInfo": json.dumps(extra),
                }
                return success({**_entry(each), **more})
        return failure(400, 20002, "parameter validate error", "Source must not be null")

    def _export(self, call: Call) -> Reply:
        wanted = set(call.get("ids").split(","))
        file = io.BytesIO()
        described = ["metadata:"]
        with zipfile.ZipFile(file, "w") as archive:
            for (_, group, data_id), document in self._documents.stored.items():
                if str(document.config_id) in wanted:
                    archive.writestr(f"{group}/{data_id}", document.content)
                    described += [
                        f"- appName: {document.app}",
                        f"  dataId: {data_id}",
                        f"  desc: {document.desc}",
                        f"  group: {group}",
                        f"  type: {document.type}",
                    ]
            archive.writestr(METADATA, "\n".join(described) + "\n")
        return Reply(200, file.getvalue(), {"content-type": "application/octet-stream"})

    def _import(self, call: Call) -> Reply:
        payload = call.body.split(b"\r\n\r\n", 1)[-1].rpartition(b"\r\n--")[0]
        try:
            with zipfile.ZipFile(io.BytesIO(payload)) as archive:
                if METADATA not in archive.namelist():
                    return failure(200, 100002, "metadata illegal", NOTHING)
                files = {
                    name: archive.read(name).decode()
                    for name in archive.namelist()
                    if name != METADATA
                }
        except zipfile.BadZipFile:
            return failure(200, 100003, "parsing data failed", NOTHING)
        namespace = call.get("namespaceId", "public")
        keys = ((namespace, *name.split("/", 1)) for name in files)
        now = _documents_of(keys, files.values())
        return self._take_over(now, call.get("policy"))

    def _clone(self, call: Call) -> Reply:
        by_id = {each.config_id: each for each in self._documents.stored.values()}
        namespace = call.get("namespaceId", "public")
        wanted: dict[Key, Document] = {}
        for item in json.loads(call.body):
            document = by_id.get(item["configId"])
            if document is not None:
                wanted[namespace, item["targetGroupName"], item["targetDataId"]] = document
        if not wanted:
            return failure(200, 100005, "Imported file data is empty", NOTHING)
        return self._take_over(wanted, call.get("policy"))

    def _take_over(self, documents: dict[Key, Document], policy: str) -> Reply:
        done, skipped, failed = 0, 0, []
        for key, document in documents.items():
            there = key in self._documents.stored
            if there and policy == "SKIP":
                skipped += 1
            elif there and policy != "OVERWRITE":
                failed.append({"dataId": key[2], "group": key[1]})
                break
            else:
                self._documents.write(key, document)
                done += 1
        told: dict[str, Any] = {"succCount": done, "skipCount": skipped}
        if failed:
            told["failData"] = failed
        return success(told)


def _documents_of(keys: Iterable[tuple[str, ...]], contents: Iterable[str]) -> dict[Key, Document]:
    return {
        (key[0], key[1], key[2]): Document(content, key[2].rpartition(".")[2], 1, 1)
        for key, content in zip(keys, contents, strict=True)
    }


def _fits(pattern: str, name: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*")
    return not pattern or re.fullmatch(expression, name) is not None


def _summary(key: Key, document: Document) -> dict[str, Any]:
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


def _entry(entry: Entry) -> dict[str, Any]:
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
