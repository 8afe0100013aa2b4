"""The fake's `/v3/client/cs` and `/v3/admin/cs`."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from ._documents import Beta, Document, Documents, Key
from ._wire import Call, Refusal, Reply, failure, success, text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ConfigRoutes",)

TYPES = frozenset({"text", "json", "xml", "yaml", "html", "properties", "toml"})
NOT_FOUND = "resource not found"
_LEGAL = re.compile(r"[a-zA-Z0-9\-_:.]*")


class ConfigRoutes:
    """Reads and writes documents as the server does."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def table(self) -> dict[tuple[str, str], Callable[[Call], Reply]]:
        """Method and path to handler."""
        return {
            ("GET", "/v3/client/cs/config"): self._read,
            ("GET", "/v3/admin/cs/config"): self._read_stored,
            ("POST", "/v3/admin/cs/config"): self._publish,
            ("DELETE", "/v3/admin/cs/config"): self._delete,
            ("GET", "/v3/admin/cs/config/beta"): self._beta,
            ("DELETE", "/v3/admin/cs/config/beta"): self._stop_beta,
        }

    def _read(self, call: Call) -> Reply:
        for name in ("dataId", "groupName"):
            if not call.get(name):
                # This controller answers in plain text, unlike all others.
                words = f"caused: Required parameter '{name}' type String is not present;"
                return text(400, words)
        key = key_of(call)
        document = self._documents.visible(key)
        beta = self._documents.betas.get(key)
        for_me = beta is not None and call.peer in beta.ips
        if beta is not None and for_me:
            document = beta.document
        if document is None:
            return failure(200, 20004, NOT_FOUND)
        return success(
            {
                "resultCode": 200,
                "errorCode": 0,
                "message": None,
                "requestId": None,
                "content": document.content,
                "encryptedDataKey": document.encrypted_data_key,
                "contentType": document.type,
                "md5": document.md5,
                "lastModified": document.modified_ms,
                "tag": None,
                "beta": for_me,
                "success": True,
            }
        )

    def _read_stored(self, call: Call) -> Reply:
        call.need("dataId", "groupName")
        namespace, group, data_id = key = key_of(call)
        document = self._documents.stored.get(key)
        if document is None:
            return failure(404, 20004, NOT_FOUND, "Config not exist, please publish Config first.")
        return success(
            {
                "id": str(document.config_id),
                "namespaceId": namespace,
                "groupName": group,
                "dataId": data_id,
                "md5": document.md5,
                "type": document.type,
                "appName": document.app,
                "createTime": document.created_ms,
                "modifyTime": document.modified_ms,
                "content": document.content,
                "desc": document.desc or None,
                "encryptedDataKey": document.encrypted_data_key,
                "createUser": "nacos",
                "createIp": call.peer,
                "configTags": document.tags or None,
            }
        )

    def _publish(self, call: Call) -> Reply:
        call.need("dataId", "groupName", "content")
        key = key_of(call)
        earlier = self._documents.stored.get(key)
        expected = call.headers.get("casmd5", "")
        if expected and (earlier is None or earlier.md5 != expected):
            lost = "Cas publish fail, server md5 may have changed."
            return failure(500, 20005, "resource conflict", lost)
        now = int(time.time() * 1000)
        kind = call.get("type")
        document = Document(
            content=call.get("content"),
            type=kind if kind in TYPES else "text",
            modified_ms=now,
            created_ms=earlier.created_ms if earlier else now,
            encrypted_data_key=call.get("encryptedDataKey"),
            desc=call.get("desc") or (earlier.desc if earlier else ""),
            tags=call.get("configTags") or (earlier.tags if earlier else ""),
            app=call.get("appName") or (earlier.app if earlier else ""),
        )
        beta_ips = call.headers.get("betaips", "")
        if beta_ips:
            self._documents.betas[key] = Beta(document, tuple(beta_ips.split(",")))
        elif not call.get("tag"):
            self._documents.write(key, document)
        return success(True)

    def _beta(self, call: Call) -> Reply:
        call.need("dataId", "groupName")
        namespace, group, data_id = key = key_of(call)
        beta = self._documents.betas.get(key)
        if beta is None:
            return failure(404, 20004, NOT_FOUND, "Config is not in beta.")
        rule = {"type": "beta", "version": "1.0.0", "expr": ",".join(beta.ips)}
        return success(
            {
                "id": "1",
                "namespaceId": namespace,
                "groupName": group,
                "dataId": data_id,
                "md5": beta.document.md5,
                "type": None,
                "content": beta.document.content,
                "grayName": "beta",
                "grayRule": json.dumps(rule),
            }
        )

    def _stop_beta(self, call: Call) -> Reply:
        call.need("dataId", "groupName")
        self._documents.betas.pop(key_of(call), None)
        return success(True)

    def _delete(self, call: Call) -> Reply:
        call.need("dataId", "groupName")
        self._documents.write(key_of(call), None)
        return success(True)


def key_of(call: Call) -> Key:
    """The document a call names, with the server's parameter check."""
    for name in ("dataId", "groupName"):
        if not _LEGAL.fullmatch(call.get(name)):
            raise Refusal(
                text(
                    400,
                    f"Param '{name}' is illegal, illegal characters should not appear in the param.\n",
                )
            )
    return (call.get("namespaceId", "public"), call.get("groupName"), call.get("dataId"))
