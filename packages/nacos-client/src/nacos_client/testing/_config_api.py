"""The fake's `/v3/client/cs` and `/v3/admin/cs`."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from ._documents import Beta, Document, Documents, Key
from ._wire import FakeRequest, FakeResponse, Refusal, build_failure, build_success, build_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ConfigRoutes",)

_CONTENT_TYPES = frozenset({"text", "json", "xml", "yaml", "html", "properties", "toml"})
_NOT_FOUND = "resource not found"
_LEGAL = re.compile(r"[a-zA-Z0-9\-_:.]*")


class ConfigRoutes:
    """Handles reads and writes of documents as the server does."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def build_routes(self) -> dict[tuple[str, str], Callable[[FakeRequest], FakeResponse]]:
        """Method and path to handler."""
        return {
            ("GET", "/v3/client/cs/config"): self._read,
            ("GET", "/v3/admin/cs/config"): self._read_stored,
            ("POST", "/v3/admin/cs/config"): self._publish,
            ("DELETE", "/v3/admin/cs/config"): self._delete,
            ("GET", "/v3/admin/cs/config/beta"): self._read_beta,
            ("DELETE", "/v3/admin/cs/config/beta"): self._delete_beta,
        }

    def _read(self, request: FakeRequest) -> FakeResponse:
        for name in ("dataId", "groupName"):
            if not request.get(name):
                # Unlike all others, this controller responds in plain text.
                message = f"caused: Required parameter '{name}' type String is not present;"
                return build_text(400, message)
        key = parse_key(request)
        document = self._documents.read_cached(key)
        beta = self._documents.betas.get(key)
        is_beta = beta is not None and request.peer in beta.ips
        if beta is not None and is_beta:
            document = beta.document
        if document is None:
            return build_failure(200, 20004, _NOT_FOUND)
        return build_success(
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
                "beta": is_beta,
                "success": True,
            }
        )

    def _read_stored(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName")
        namespace, group, data_id = key = parse_key(request)
        document = self._documents.stored.get(key)
        if document is None:
            return build_failure(
                404, 20004, _NOT_FOUND, "Config not exist, please publish Config first."
            )
        return build_success(
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
                "createIp": request.peer,
                "configTags": document.tags or None,
            }
        )

    def _publish(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName", "content")
        key = parse_key(request)
        previous = self._documents.stored.get(key)
        expected = request.headers.get("casmd5", "")
        if expected and (previous is None or previous.md5 != expected):
            detail = "Cas publish fail, server md5 may have changed."
            return build_failure(500, 20005, "resource conflict", detail)
        now = int(time.time() * 1000)
        kind = request.get("type")
        document = Document(
            content=request.get("content"),
            type=kind if kind in _CONTENT_TYPES else "text",
            modified_ms=now,
            created_ms=previous.created_ms if previous else now,
            encrypted_data_key=request.get("encryptedDataKey"),
            desc=request.get("desc") or (previous.desc if previous else ""),
            tags=request.get("configTags") or (previous.tags if previous else ""),
            app=request.get("appName") or (previous.app if previous else ""),
        )
        beta_ips = request.headers.get("betaips", "")
        if beta_ips:
            self._documents.betas[key] = Beta(document, tuple(beta_ips.split(",")))
        elif not request.get("tag"):
            self._documents.write(key, document)
        return build_success(True)

    def _read_beta(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName")
        namespace, group, data_id = key = parse_key(request)
        beta = self._documents.betas.get(key)
        if beta is None:
            return build_failure(404, 20004, _NOT_FOUND, "Config is not in beta.")
        rule = {"type": "beta", "version": "1.0.0", "expr": ",".join(beta.ips)}
        return build_success(
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

    def _delete_beta(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName")
        self._documents.betas.pop(parse_key(request), None)
        return build_success(True)

    def _delete(self, request: FakeRequest) -> FakeResponse:
        request.require("dataId", "groupName")
        self._documents.write(parse_key(request), None)
        return build_success(True)


def parse_key(request: FakeRequest) -> Key:
    """The document that a request names, with the server's parameter check."""
    for name in ("dataId", "groupName"):
        if not _LEGAL.fullmatch(request.get(name)):
            raise Refusal(
                build_text(
                    400,
                    f"Param '{name}' is illegal, illegal characters should not appear in the param.\n",
                )
            )
    return (request.get("namespaceId", "public"), request.get("groupName"), request.get("dataId"))
