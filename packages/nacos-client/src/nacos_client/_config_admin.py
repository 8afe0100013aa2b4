"""Administer documents: operations without I/O on the admin API."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._config_list import CONFIG_LIST, LIST_PAGE_SIZE
from ._keys import ConfigKey
from ._responses import read_data, read_document
from ._session import Session
from ._steps import Operation, Request, Response
from ._validation import validate_content, validate_ip, validate_namespace
from .admin_models import (
    BetaConfig,
    ConfigDetail,
    ConfigSummary,
    ConfigVersion,
    ConfigVersionDetail,
    Page,
    TransferResult,
    read,
    read_page,
)
from .ciphers import ConfigCipher, encrypt_content
from .errors import (
    InvalidArgumentError,
    NotFoundError,
    RequestRejectedError,
    ServerError,
    UnexpectedAnswerError,
)

__all__ = ("ConfigAdmin", "infer_content_type")

_CONFIG = "/v3/admin/cs/config"
_HISTORY = "/v3/admin/cs/history"
_POLICIES = ("ABORT", "SKIP", "OVERWRITE")
_CONTENT_TYPES = ("text", "json", "xml", "yaml", "html", "properties", "toml")
_TYPES_BY_ENDING = {"yml": "yaml", "htm": "html"} | {each: each for each in _CONTENT_TYPES[1:]}
_NO_SUCH_VERSION = 20002


def infer_content_type(data_id: str) -> str:
    """The content type for a data id's ending; `text` for an unknown one."""
    return _TYPES_BY_ENDING.get(data_id.rpartition(".")[2].lower(), "text")


class ConfigAdmin:
    """Publishes, searches and restores documents. Needs admin permissions."""

    def __init__(self, session: Session, ciphers: Sequence[ConfigCipher]) -> None:
        self._session = session
        self._ciphers = tuple(ciphers)

    def publish(
        self,
        key: ConfigKey,
        content: str,
        *,
        kind: str | None,
        cas_md5: str | None = None,
        beta_ips: Sequence[str] = (),
        tag: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        app: str | None = None,
    ) -> Operation[None]:
        """Create or replace a document; see `AsyncAdminApi.publish`, of which this is the core."""
        stored, wrapped_key = encrypt_content(self._ciphers, key.data_id, validate_content(content))
        form = {
            **key.to_parameters(),
            "content": stored,
            "type": _validate_type(kind) or infer_content_type(key.data_id),
            "encryptedDataKey": wrapped_key,
            "desc": description,
            "configTags": ",".join(tags) or None,
            "appName": app,
            "tag": tag,
        }
        headers = {}
        if cas_md5:
            headers["casMd5"] = cas_md5
        if beta_ips:
            headers["betaIps"] = _join_ips(beta_ips)
        request = Request("POST", _CONFIG, form=form, headers=headers, retry="unsent")
        yield from self._session.call(request)

    def delete(self, key: ConfigKey) -> Operation[None]:
        """Delete a document; one that does not exist is no error."""
        yield from self._session.call(Request("DELETE", _CONFIG, query=key.to_parameters()))

    def get(self, key: ConfigKey) -> Operation[ConfigDetail]:
        """The document in the database, where a write is visible at once.

        Raises:
            ConfigNotFound: there is none.
        """
        request = Request("GET", _CONFIG, query=key.to_parameters())
        data = yield from self._session.call(request)
        return read(ConfigDetail, data, request.operation)

    def read_search_page(
        self,
        namespace: str,
        page: int,
        *,
        data_id: str = "",
        group: str = "",
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        app: str = "",
    ) -> Operation[Page[ConfigSummary]]:
        """One page of the documents that match; `*` matches anything in data id and group."""
        query = {
            "dataId": data_id,
            "groupName": group,
            "namespaceId": validate_namespace(namespace),
            "search": "blur" if not data_id or "*" in data_id + group else "accurate",
            "type": ",".join(kinds) or None,
            "configTags": ",".join(tags) or None,
            "appName": app or None,
            "pageNo": page,
            "pageSize": LIST_PAGE_SIZE,
        }
        request = Request("GET", CONFIG_LIST, query=query)
        data = yield from self._session.call(request)
        return read_page(ConfigSummary, data, request.operation)

    def beta(self, key: ConfigKey) -> Operation[BetaConfig]:
        """The beta version.

        Raises:
            ConfigNotFound: there is none.
        """
        request = Request("GET", f"{_CONFIG}/beta", query=key.to_parameters())
        data = yield from self._session.call(request)
        return read(BetaConfig, data, request.operation)

    def stop_beta(self, key: ConfigKey) -> Operation[None]:
        """Delete the beta version: all clients see the formal one."""
        yield from self._session.call(
            Request("DELETE", f"{_CONFIG}/beta", query=key.to_parameters())
        )

    def read_history_page(self, key: ConfigKey, page: int) -> Operation[Page[ConfigVersion]]:
        """One page of a document's history, newest first."""
        query = {**key.to_parameters(), "pageNo": page, "pageSize": LIST_PAGE_SIZE}
        request = Request("GET", f"{_HISTORY}/list", query=query)
        data = yield from self._session.call(request)
        return read_page(ConfigVersion, data, request.operation)

    def version(self, key: ConfigKey, version_id: str) -> Operation[ConfigVersionDetail]:
        """One entry of the history with its content.

        Raises:
            NotFoundError: there is no such entry.
        """
        number = _validate_version(version_id)
        request = Request("GET", _HISTORY, query={**key.to_parameters(), "nid": number})
        try:
            data = yield from self._session.call(request)
        except (RequestRejectedError, ServerError) as refusal:
            if refusal.code != _NO_SUCH_VERSION:
                raise
            # Nacos reports a missing history entry as an invalid parameter.
            raise NotFoundError(
                request.operation,
                status=refusal.status,
                code=refusal.code,
                detail=f"no version {number} of {key.data_id}",
                server=refusal.server,
            ) from None
        return read(ConfigVersionDetail, data, request.operation)

    def rollback(self, key: ConfigKey, version_id: str) -> Operation[None]:
        """Publish the content of an entry of the history again.

        Raises:
            NotFoundError: there is no such entry.
        """
        version = yield from self.version(key, version_id)
        # As it was stored: encrypted content is published with its own key, not encrypted again.
        form = {
            **key.to_parameters(),
            "content": validate_content(version.content),
            "type": version.content_type or infer_content_type(key.data_id),
            "encryptedDataKey": version.encrypted_data_key or None,
            "appName": version.app or None,
        }
        yield from self._session.call(Request("POST", _CONFIG, form=form, retry="unsent"))

    def export_configs(self, namespace: str, config_ids: Sequence[str]) -> Operation[bytes]:
        """The documents as a zip file."""
        query = {
            "namespaceId": validate_namespace(namespace),
            "dataId": "",
            "groupName": "",
            "ids": ",".join(config_ids),
        }
        request = Request("GET", f"{_CONFIG}/export", query=query)
        archive: bytes = yield from self._session.call(request, read=_read_archive)
        return archive

    def import_configs(
        self, namespace: str, archive: bytes, policy: str
    ) -> Operation[TransferResult]:
        """Publish the documents of a zip file."""
        boundary = uuid.uuid4().hex
        request = Request(
            "POST",
            f"{_CONFIG}/import",
            query={
                "namespaceId": validate_namespace(namespace),
                "policy": _validate_policy(policy),
            },
            body=_encode_multipart(boundary, archive),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            retry="unsent",
        )
        data = yield from self._session.call(request)
        return _parse_transfer(data, request.operation)

    def clone(
        self, configs: Sequence[ConfigSummary | ConfigDetail], target: str, policy: str
    ) -> Operation[TransferResult]:
        """Copy documents into another namespace."""
        body = [
            {
                "configId": int(each.config_id),
                "targetDataId": each.data_id,
                "targetGroupName": each.group,
            }
            for each in configs
        ]
        request = Request(
            "POST",
            f"{_CONFIG}/clone",
            query={"namespaceId": validate_namespace(target), "policy": _validate_policy(policy)},
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            retry="unsent",
        )
        data = yield from self._session.call(request)
        return _parse_transfer(data, request.operation)


def _read_archive(request: Request, response: Response, server: str) -> bytes:
    if response.status == 200 and response.body.startswith(b"PK"):
        return response.body
    # Whatever error the body holds is raised by these two.
    read_document(request, response, server)
    read_data(request, response, server)
    raise ServerError(
        request.operation, status=response.status, detail="no zip file", server=server
    )


def _encode_multipart(boundary: str, archive: bytes) -> bytes:
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="configs.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    return head.encode() + archive + f"\r\n--{boundary}--\r\n".encode()


def _parse_transfer(data: Mapping[str, Any] | None, operation: str) -> TransferResult:
    counts = data or {}
    try:
        failed = tuple(
            f"{each.get('group') or each.get('groupName')}/{each.get('dataId')}"
            for each in counts.get("failData") or ()
        )
        succeeded, skipped = (int(counts.get(name) or 0) for name in ("succCount", "skipCount"))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise UnexpectedAnswerError(
            operation, status=200, detail="data does not count documents"
        ) from None
    return TransferResult(succeeded, skipped, failed)


def _validate_type(kind: str | None) -> str | None:
    # The server would store an unknown type as text, and report success.
    if kind is not None and kind not in _CONTENT_TYPES:
        raise InvalidArgumentError("type", kind, f"one of {', '.join(_CONTENT_TYPES)}")
    return kind


def _validate_policy(policy: str) -> str:
    if policy not in _POLICIES:
        raise InvalidArgumentError("policy", policy, f"one of {', '.join(_POLICIES)}")
    return policy


def _join_ips(ips: Sequence[str]) -> str:
    if isinstance(ips, str) or not isinstance(ips, Iterable):
        raise InvalidArgumentError("beta_ips", ips, "a list of addresses")
    return ",".join(validate_ip(each) for each in ips)


def _validate_version(version_id: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", str(version_id)):
        raise InvalidArgumentError("version_id", version_id, "the version_id of a ConfigVersion")
    return str(version_id)
