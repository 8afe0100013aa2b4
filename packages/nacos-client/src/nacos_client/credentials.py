"""How requests are authenticated: by request signing, behind a small protocol."""

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
    """The parts of a request that a credential provider may sign.

    Attributes:
        kind: `config`, `naming` or `admin`.
        namespace, group, name: the resource; empty where the request has none.
    """

    method: str
    path: str
    kind: str
    namespace: str
    group: str
    name: str


class CredentialProvider(Protocol):
    """Authenticates each attempt of a request by headers; used from several threads at once."""

    def headers(self, request: SignableRequest) -> Mapping[str, str]:
        """The headers to add. It must not block; what it raises reaches the caller of the client."""
        ...


class AccessKeyCredentials:
    """Signs requests with an access key and a secret key, as the Java client does (HMAC-SHA1).

    Source: `SpasAdapter` and `NamingSignUtils` of the Nacos Java client.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()

    def __repr__(self) -> str:
        return f"AccessKeyCredentials({self._access_key!r}, <secret>)"

    def headers(self, request: SignableRequest) -> Mapping[str, str]:
        """The signature headers of a request, in the form its kind requires."""
        timestamp = str(int(time.time() * 1000))
        if request.kind == "naming":
            data = timestamp
            if request.name:
                data = f"{timestamp}@@{request.group}@@{request.name}"
            return {"ak": self._access_key, "data": data, "signature": self._sign(data)}
        resource = "+".join(part for part in (request.namespace, request.group) if part)
        text = f"{resource}+{timestamp}" if resource else timestamp
        return {
            "Spas-AccessKey": self._access_key,
            "Timestamp": timestamp,
            "Spas-Signature": self._sign(text),
        }

    def _sign(self, text: str) -> str:
        digest = hmac.new(self._secret_key, text.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()
