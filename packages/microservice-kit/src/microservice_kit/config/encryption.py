"""Encrypted configuration: `ENC(...)` as a value, or as a whole document.

AES-256-GCM (NIST SP 800-38D). The text inside is `v1.<key id>.<base64url of nonce and
ciphertext>`; the key id says which key, so that keys can be rotated while old values are still
about. A value is decrypted in memory only: snapshots and versions keep what was published.

    python -m microservice_kit.config.encryption [KEY-ID] < secret.txt

prints the encrypted form of standard input, with the key from the environment.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from microservice_core import MicroserviceError, MissingDependencyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = (
    "ConfigEncryption",
    "DecryptionError",
    "KeyProvider",
    "encrypted_keys",
    "environment_keys",
)

KeyProvider = Callable[[str], bytes]

VARIABLE = "MICROSERVICE_CONFIG_KEY"
NONCE_BYTES = 12
KEYS_KEPT = 64
_PURPOSE = b"microservice-kit configuration v1"
_ENCRYPTED = re.compile(
    r"\s*ENC\(\s*v1\.(?P<key_id>[A-Za-z0-9_-]*)\.(?P<body>[A-Za-z0-9_=-]+)\s*\)\s*"
)


class DecryptionError(MicroserviceError, ValueError):
    """An encrypted value cannot be read; neither the value nor the key is shown.

    Attributes:
        key_id: which key it asks for; empty is the default one.
    """

    def __init__(self, key_id: str, problem: str) -> None:
        named = f"key {key_id!r}" if key_id else "the default key"
        super().__init__(f"an ENC(...) value cannot be decrypted with {named}: {problem}")
        self.key_id = key_id


def environment_keys(key_id: str) -> bytes:
    """The key from `MICROSERVICE_CONFIG_KEY`, or `MICROSERVICE_CONFIG_KEY_<KEY ID>`, as base64.

    Raises:
        DecryptionError: the variable is not set or is no base64.
    """
    name = f"{VARIABLE}_{key_id.upper().replace('-', '_')}" if key_id else VARIABLE
    given = os.environ.get(name)
    if not given:
        raise DecryptionError(key_id, f"set {name} to 32 random bytes in base64")
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        raise DecryptionError(key_id, f"{name} is no base64") from None


class ConfigEncryption:
    """Encrypts and decrypts configuration values.

    Args:
        keys: gives the 32 bytes of a key by its id; asked once per id.
    """

    def __init__(self, keys: KeyProvider = environment_keys) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}

    def __repr__(self) -> str:
        return "ConfigEncryption()"

    def encrypt(self, text: str, key_id: str = "") -> str:
        """The text as `ENC(...)`, different each time.

        Raises:
            DecryptionError: there is no such key, or it is not 32 bytes long.
            MissingDependencyError: the extra `crypto` is not installed.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(key_id).encrypt(nonce, text.encode(), _PURPOSE)
        return f"ENC(v1.{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()})"

    def decrypt(self, text: str) -> str:
        """What is inside an `ENC(...)`; any other text as it is.

        Raises:
            DecryptionError: wrong key, or the text was changed.
            MissingDependencyError: the extra `crypto` is not installed.
        """
        match = _ENCRYPTED.fullmatch(text)
        if match is None:
            if _is_encrypted(text):
                raise DecryptionError("", "it is not of the form ENC(v1.<key id>.<base64url>)")
            return text
        return self._open(match["key_id"], match["body"])

    def decrypt_all(self, data: Mapping[str, object]) -> dict[str, object]:
        """The same data with every encrypted text in it decrypted.

        Raises:
            DecryptionError: see `decrypt`.
        """
        return {key: self._inside(value) for key, value in data.items()}

    def _inside(self, value: object) -> object:
        if isinstance(value, Mapping):
            return self.decrypt_all(value)
        if isinstance(value, list):
            return [self._inside(one) for one in value]
        return self.decrypt(value) if isinstance(value, str) else value

    def _open(self, key_id: str, body: str) -> str:
        cipher = self._cipher(key_id)
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.urlsafe_b64decode(body)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _PURPOSE).decode()
        except (InvalidTag, ValueError):
            problem = "it was encrypted with another key, or changed since; encrypt it again"
            raise DecryptionError(key_id, problem) from None

    def _cipher(self, key_id: str) -> AESGCM:
        found = self._ciphers.get(key_id)
        if found is None:
            if len(self._ciphers) >= KEYS_KEPT:
                self._ciphers.clear()
            found = self._ciphers[key_id] = self._made(key_id)
        return found

    def _made(self, key_id: str) -> AESGCM:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise MissingDependencyError("ENC(...)", "microservice-kit[crypto]") from error
        key = self._keys(key_id)
        if len(key) != 32:
            raise DecryptionError(key_id, f"the key has {len(key)} bytes, it has to have 32")
        return AESGCM(key)


def encrypted_keys(data: Mapping[str, object], prefix: str = "") -> frozenset[str]:
    """The dotted keys whose value is, or is a list that holds, an `ENC(...)`."""
    found: set[str] = set()
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= encrypted_keys(value, f"{prefix}{key}.")
        elif any(map(_is_encrypted, value if isinstance(value, list) else [value])):
            found.add(f"{prefix}{key}")
    return frozenset(found)


def _is_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("ENC(")


if __name__ == "__main__":
    try:
        print(ConfigEncryption().encrypt(sys.stdin.read(), *sys.argv[1:2]))  # noqa: T201
    except MicroserviceError as error:
        sys.exit(str(error))
