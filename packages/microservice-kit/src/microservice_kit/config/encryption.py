"""Encrypted configuration: `ENC(...)` as a value, or as a whole document.

AES-256-GCM (NIST SP 800-38D). The text inside is `v1.<key id>.<base64url of nonce and
ciphertext>`; the key id says which key decrypts it, so that keys can be rotated while values
encrypted with an older key are still published. A value is decrypted in memory only: snapshots and
versions keep what was published.

    python -m microservice_kit.encrypt [KEY-ID] < secret.txt

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
    "find_encrypted_keys",
    "is_encrypted_text",
    "main",
    "read_environment_key",
)

KeyProvider = Callable[[str], bytes]
"""Returns the 32 bytes of the key with this id; an empty id is the default key."""

_KEY_VARIABLE = "MICROSERVICE_CONFIG_KEY"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_CIPHERS = 64
_PURPOSE = b"microservice-kit configuration v1"
_ENCRYPTED = re.compile(
    r"\s*ENC\(\s*v1\.(?P<key_id>[A-Za-z0-9_-]*)\.(?P<body>[A-Za-z0-9_=-]+)\s*\)\s*"
)


class DecryptionError(MicroserviceError, ValueError):
    """An encrypted value cannot be read; the message shows neither the value nor the key.

    Attributes:
        key_id: the id of the key that is needed; empty is the default key.
    """

    def __init__(self, key_id: str, problem: str) -> None:
        name = f"key {key_id!r}" if key_id else "the default key"
        super().__init__(f"an ENC(...) value cannot be decrypted with {name}: {problem}")
        self.key_id = key_id


def read_environment_key(key_id: str) -> bytes:
    """Read the key from `MICROSERVICE_CONFIG_KEY`, or `MICROSERVICE_CONFIG_KEY_<KEY ID>`, in base64.

    Raises:
        DecryptionError: the variable is not set or is not valid base64.
    """
    name = f"{_KEY_VARIABLE}_{key_id.upper().replace('-', '_')}" if key_id else _KEY_VARIABLE
    text = os.environ.get(name)
    if not text:
        raise DecryptionError(key_id, f"set {name} to {_KEY_BYTES} random bytes in base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise DecryptionError(key_id, f"{name} is not valid base64") from None


class ConfigEncryption:
    """Encrypts and decrypts configuration values.

    Args:
        keys: returns the 32 bytes of a key by its id; called once per id.
    """

    def __init__(self, keys: KeyProvider = read_environment_key) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}

    def __repr__(self) -> str:
        return "ConfigEncryption()"

    def encrypt(self, text: str, key_id: str = "") -> str:
        """Return the text as `ENC(...)`, different each time.

        Raises:
            DecryptionError: there is no such key, or it is not 32 bytes long.
            MissingDependencyError: the extra `crypto` is not installed.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher_for(key_id).encrypt(nonce, text.encode(), _PURPOSE)
        return f"ENC(v1.{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()})"

    def decrypt(self, text: str) -> str:
        """Return the text inside an `ENC(...)`; any other text unchanged.

        Raises:
            DecryptionError: wrong key, or the encrypted text was modified.
            MissingDependencyError: the extra `crypto` is not installed.
        """
        match = _ENCRYPTED.fullmatch(text)
        if match is None:
            if _is_encrypted(text):
                raise DecryptionError("", "it is not of the form ENC(v1.<key id>.<base64url>)")
            return text
        return self._decrypt_body(match["key_id"], match["body"])

    def decrypt_all(self, data: Mapping[str, object]) -> dict[str, object]:
        """Return the same data with every encrypted text decrypted.

        What was decrypted is taken as it is: a `${` in it is written as `$${`, which the replacement
        of placeholders turns back.

        Raises:
            DecryptionError: see `decrypt`.
        """
        return {key: self._decrypt_value(value) for key, value in data.items()}

    def _decrypt_value(self, value: object) -> object:
        if isinstance(value, Mapping):
            return self.decrypt_all(value)
        if isinstance(value, list):
            return [self._decrypt_value(child) for child in value]
        if not isinstance(value, str):
            return value
        return self.decrypt(value).replace("${", "$${") if _is_encrypted(value) else value

    def _decrypt_body(self, key_id: str, body: str) -> str:
        cipher = self._cipher_for(key_id)
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.urlsafe_b64decode(body)
            return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE).decode()
        except (InvalidTag, ValueError):
            problem = "it was encrypted with another key, or changed since; encrypt it again"
            raise DecryptionError(key_id, problem) from None

    def _cipher_for(self, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            if len(self._ciphers) >= _MAX_CIPHERS:
                self._ciphers.clear()
            cipher = self._ciphers[key_id] = self._create_cipher(key_id)
        return cipher

    def _create_cipher(self, key_id: str) -> AESGCM:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise MissingDependencyError("ENC(...)", "microservice-kit[crypto]") from error
        key = self._keys(key_id)
        if len(key) != _KEY_BYTES:
            problem = f"the key has {len(key)} bytes, it must have {_KEY_BYTES}"
            raise DecryptionError(key_id, problem)
        return AESGCM(key)


def find_encrypted_keys(data: Mapping[str, object], prefix: str = "") -> frozenset[str]:
    """Return the dotted keys whose value is an `ENC(...)`, or a list that contains one anywhere."""
    keys: set[str] = set()
    for key, value in data.items():
        if isinstance(value, Mapping):
            keys |= find_encrypted_keys(value, f"{prefix}{key}.")
        elif _holds_encrypted(value):
            keys.add(f"{prefix}{key}")
    return frozenset(keys)


def _holds_encrypted(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_encrypted, value.values()))
    if isinstance(value, list):
        return any(map(_holds_encrypted, value))
    return _is_encrypted(value)


def is_encrypted_text(text: str) -> bool:
    """Whether the text as a whole is an `ENC(...)`."""
    return _is_encrypted(text)


def _is_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("ENC(")


def main() -> int:
    """Print the encrypted standard input; on standard error what is wrong with the key."""
    try:
        print(ConfigEncryption().encrypt(sys.stdin.read(), *sys.argv[1:2]))  # noqa: T201
    except MicroserviceError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":  # the command of before; Python warns that the package has imported it
    sys.exit(main())
