"""Administer documents: operations without I/O on the admin API."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from . import _names as names
from ._answers import data_of, document_of
from ._steps import Answer, Operation, Request
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
from .ciphers import encrypted
from .errors import InvalidArgumentError, NotFoundError, RequestRejectedError, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._config import ConfigKey
    from ._session import Session
    from .ciphers import ConfigCipher

__all__ = ("ConfigAdmin", "type_of")

CONFIG = "/v3/admin/cs/config"
HISTORY = "/v3/admin/cs/history"
PAGE_SIZE = 500
POLICIES = ("ABORT", "SKIP", "OVERWRITE")
KNOWN_TYPES = ("text", "json", "xml", "yaml", "html", "properties", "toml")
TYPES = {"yml": "yaml", "htm": "html"} | {each: each for each in KNOWN_TYPES[1:]}


def type_of(data_id: str) -> str:
    """The type a data id's ending stands for; `text` when it says nothing."""
    return TYPES.get(data_id.rpartition(".")[2].lower(), "text")


class ConfigAdmin:
    """What can be administered about documents. Needs admin permissions."""

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
        """Create or replace a document; never tried again once it may have arrived.

        Raises:
            ConflictError: `cas_md5` is not the server's md5.
        """
        stored, wrapped = encrypted(self._ciphers, key.data_id, names.content(content))
        form = {
            **key.parameters(),
            "content": stored,
            "type": _checked_type(kind) or type_of(key.data_id),
            "encryptedDataKey": wrapped,
            "desc": description,
            "configTags": ",".join(tags) or None,
            "appName": app,
            "tag": tag,
        }
        headers = {}
        if cas_md5:
            headers["casMd5"] = cas_md5
        if beta_ips:
            headers["betaIps"] = _checked_ips(beta_ips)
        request = Request("POST", CONFIG, form=form, headers=headers, repeat="unsent")
        yield from self._session.call(request)

    def delete(self, key: ConfigKey) -> Operation[None]:
        """Delete a document; one that is not there is no error."""
        yield from self._session.call(Request("DELETE", CONFIG, query=key.parameters()))

    def get(self, key: ConfigKey) -> Operation[ConfigDetail]:
        """The document as the database has it: sees one's own writes at once.

        Raises:
            ConfigNotFound: there is none.
        """
        request = Request("GET", CONFIG, query=key.parameters())
        data = yield from self._session.call(request)
        return read(ConfigDetail, data, request.operation)

    def search_page(
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
            "namespaceId": names.namespace(namespace),
            "search": "blur" if not data_id or "*" in data_id + group else "accurate",
            "type": ",".join(kinds) or None,
            "configTags": ",".join(tags) or None,
            "appName": app or None,
            "pageNo": page,
            "pageSize": PAGE_SIZE,
        }
        request = Request("GET", f"{CONFIG}/list", query=query)
        data = yield from self._session.call(request)
        return read_page(ConfigSummary, data, request.operation)

    def md5s(self, namespace: str, most_pages: int) -> Operation[dict[tuple[str, str], str] | None]:
        """(group, data id) to md5 of a whole namespace; None when it has too many pages."""
        found: dict[tuple[str, str], str] = {}
        page = 1
        while True:
            query = {
                "dataId": "",
                "groupName": "",
                "namespaceId": namespace,
                "search": "blur",
                "pageNo": page,
                "pageSize": PAGE_SIZE,
            }
            data = yield from self._session.call(Request("GET", f"{CONFIG}/list", query=query))
            pages = data["pagesAvailable"]
            if pages > most_pages:
                return None
            found |= {(e["groupName"], e["dataId"]): e["md5"] for e in data["pageItems"]}
            if page >= pages:
                return found
            page += 1

    def beta(self, key: ConfigKey) -> Operation[BetaConfig]:
        """The beta version.

        Raises:
            ConfigNotFound: there is none.
        """
        request = Request("GET", f"{CONFIG}/beta", query=key.parameters())
        data = yield from self._session.call(request)
        return read(BetaConfig, data, request.operation)

    def stop_beta(self, key: ConfigKey) -> Operation[None]:
        """Drop the beta version: everyone sees the formal one."""
        yield from self._session.call(Request("DELETE", f"{CONFIG}/beta", query=key.parameters()))

    def history_page(self, key: ConfigKey, page: int) -> Operation[Page[ConfigVersion]]:
        """One page of a document's history, newest first."""
        query = {**key.parameters(), "pageNo": page, "pageSize": PAGE_SIZE}
        request = Request("GET", f"{HISTORY}/list", query=query)
        data = yield from self._session.call(request)
        return read_page(ConfigVersion, data, request.operation)

    def version(self, key: ConfigKey, version_id: str) -> Operation[ConfigVersionDetail]:
        """One entry of the history with its content.

        Raises:
            NotFoundError: there is no such entry.
        """
        number = _checked_version(version_id)
        request = Request("GET", HISTORY, query={**key.parameters(), "nid": number})
        try:
            data = yield from self._session.call(request)
        except (RequestRejectedError, ServerError) as refusal:
            if refusal.code != 20002:
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
        # As stored: encrypted content goes back with its own key, not through a cipher again.
        form = {
            **key.parameters(),
            "content": names.content(version.content),
            "type": version.content_type or type_of(key.data_id),
            "encryptedDataKey": version.encrypted_data_key or None,
            "appName": version.app or None,
        }
        yield from self._session.call(Request("POST", CONFIG, form=form, repeat="unsent"))

    def export(self, namespace: str, config_ids: Sequence[str]) -> Operation[bytes]:
        """The documents as a zip file."""
        query = {
            "namespaceId": names.namespace(namespace),
            "dataId": "",
            "groupName": "",
            "ids": ",".join(config_ids),
        }
        request = Request("GET", f"{CONFIG}/export", query=query)
        archive: bytes = yield from self._session.call(request, read=_archive_of)
        return archive

    def import_(self, namespace: str, archive: bytes, policy: str) -> Operation[TransferResult]:
        """Publish the documents of a zip file."""
        boundary = uuid.uuid4().hex
        request = Request(
            "POST",
            f"{CONFIG}/import",
            query={"namespaceId": names.namespace(namespace), "policy": _checked_policy(policy)},
            body=_multipart(boundary, archive),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            repeat="unsent",
        )
        data = yield from self._session.call(request)
        return _transfer(data)

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
            f"{CONFIG}/clone",
            query={"namespaceId": names.namespace(target), "policy": _checked_policy(policy)},
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            repeat="unsent",
        )
        data = yield from self._session.call(request)
        return _transfer(data)


def _archive_of(request: Request, answer: Answer, server: str) -> bytes:
    if answer.status == 200 and answer.body.startswith(b"PK"):
        return answer.body
    document_of(request, answer, server)
    data_of(request, answer, server)
    raise ServerError(request.operation, status=answer.status, detail="no zip file", server=server)


def _multipart(boundary: str, archive: bytes) -> bytes:
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="configs.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    return head.encode() + archive + f"\r\n--{boundary}--\r\n".encode()


def _transfer(data: Mapping[str, Any] | None) -> TransferResult:
    told = data or {}
    failed = tuple(
        f"{each.get('group') or each.get('groupName')}/{each.get('dataId')}"
        for each in told.get("failData") or ()
    )
    return TransferResult(int(told.get("succCount") or 0), int(told.get("skipCount") or 0), failed)


def _checked_type(kind: str | None) -> str | None:
    # The server would store what it does not know as text, without a word.
    if kind is not None and kind not in KNOWN_TYPES:
        raise InvalidArgumentError("type", kind, f"one of {', '.join(KNOWN_TYPES)}")
    return kind


def _checked_policy(policy: str) -> str:
    if policy not in POLICIES:
        raise InvalidArgumentError("policy", policy, f"one of {', '.join(POLICIES)}")
    return policy


def _checked_ips(ips: Sequence[str]) -> str:
    if isinstance(ips, str):
        raise InvalidArgumentError("beta_ips", ips, "a list of addresses")
    return ",".join(names.ip(each) for each in ips)


def _checked_version(version_id: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", str(version_id)):
        raise InvalidArgumentError("version_id", version_id, "the version_id of a ConfigVersion")
    return str(version_id)
