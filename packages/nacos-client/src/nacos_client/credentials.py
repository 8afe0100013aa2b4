"""Who is calling: user name and password by default, request signing behind a small protocol."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("AccessKeyCredentials", "CredentialProvider", "SignableRequest")


@dataclass(frozen=True, slots=True)
class SignableRequest:
    """What a credential provider may sign.

    Attributes:
        kind: `config`, `naming` or `admin`.
        namespace, group, name: the resource; empty where the call has none.
    """

    method: str
    path: str
    kind: str
    namespace: str
    group: str
    name: str


class CredentialProvider(Protocol):
    """Proves who is calling by headers, for each request anew; called from several threads."""

    def headers(self, request: SignableRequest) -> Mapping[str, str]:
        """The headers to add. Must not block; its errors reach the caller of the client."""
        ...


class AccessKeyCredentials:
    """Access key and secret key, signed as the official Java client does (HMAC-SHA1).

    Source: `SpasAdapter` and `NamingSignUtils` of the Nacos Java client.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()

    def __repr__(self) -> str:
        return f"AccessKeyCredentials({self._access_key!r}, <secret>)"

    def headers(self, request: SignableRequest) -> Mapping[str, str]:
        """Headers for the config or the naming module."""
        timestamp = str(int(time.time() * 1000))
        if request.kind == "naming":
            grouped = f"{request.group}@@{request.name}" if request.name else ""
            data = f"{timestamp}@@{grouped}" if grouped else timestamp
            return {"ak": self._access_key, "data": data, "signature": self._sign(data)}
        resource = "+".join(part for part in (request.namespace, request.group) if part)
        signed = f"{resource}+{timestamp}" if resource else timestamp
        return {
            "Spas-AccessKey": self._access_key,
            "Timestamp": timestamp,
            "Spas-Signature": self._sign(signed),
        }

    def _sign(self, text: str) -> str:
        digest = hmac.new(self._secret_key, text.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()
