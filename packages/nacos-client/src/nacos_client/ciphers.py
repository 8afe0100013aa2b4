"""Encrypted configuration: documents whose data id begins with `cipher-<algorithm>-`.

The cipher text is the document's content and its md5 is of the cipher text; the wrapped key
travels beside it as `encryptedDataKey`. Needs the extra `crypto`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from .errors import CipherError, MissingDependencyError
from .models import Config

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.modes import CBC

__all__ = ("AesGcmCipher", "ConfigCipher", "NacosAesCipher", "keys_from_environment")

_PREFIX = "cipher-"
_NONCE_BYTES = 12


class ConfigCipher(Protocol):
    """Encrypts and decrypts the documents of one algorithm."""

    @property
    def algorithm(self) -> str:
        """The algorithm's part of a data id `cipher-<algorithm>-<name>`; without hyphens."""
        ...

    def encrypt(self, data_id: str, content: str) -> tuple[str, str]:
        """The cipher text and the wrapped key of a document."""
        ...

    def decrypt(self, data_id: str, content: str, encrypted_data_key: str) -> str:
        """The clear text.

        Raises:
            CipherError: the key does not fit the content.
        """
        ...


def keys_from_environment(name: str = "NACOS_CIPHER_KEYS") -> dict[str, bytes]:
    """Keys by id, from a variable like `id:base64,id2:base64`; the first one encrypts.

    Raises:
        CipherError: the variable is missing or malformed; the error does not show its value.
    """
    text = os.environ.get(name, "")
    try:
        pairs = [part.strip().split(":", 1) for part in text.split(",") if part.strip()]
        keys = {key_id: base64.b64decode(key, validate=True) for key_id, key in pairs}
    except (ValueError, binascii.Error):
        keys = {}
    if not keys:
        raise CipherError(f"{name} must hold keys as id:base64, several separated by commas")
    return keys


class AesGcmCipher:
    """AES-256-GCM with a fresh key per document, wrapped by one of your keys (`cipher-aesgcm-…`).

    The data id is authenticated, so that the cipher text of one document cannot be used under
    another name. The wrapped key names the key that wrapped it: keys can be rotated, and old
    documents stay readable as long as their key is given.

    Args:
        keys: key id to 16, 24 or 32 bytes, or a callable that returns them (read at each use).
            The first one encrypts. Without it, `keys_from_environment()`.

    Raises:
        MissingDependencyError: the extra `crypto` is not installed.
    """

    algorithm = "aesgcm"

    def __init__(
        self, keys: Mapping[str, bytes] | Callable[[], Mapping[str, bytes]] | None = None
    ) -> None:
        _require_cryptography()
        self._keys = keys_from_environment if keys is None else keys

    def encrypt(self, data_id: str, content: str) -> tuple[str, str]:
        """The cipher text and the wrapped key of a document."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, outer = next(iter(self._get_keys().items()))
        inner = AESGCM.generate_key(bit_length=256)
        wrapped = f"{key_id}:{_seal(_create_aead(outer), inner, data_id)}"
        return _seal(_create_aead(inner), content.encode(), data_id), wrapped

    def decrypt(self, data_id: str, content: str, encrypted_data_key: str) -> str:
        """The clear text.

        Raises:
            CipherError: no key of that id, or key, content and data id do not belong together.
        """
        key_id, _, wrapped = encrypted_data_key.partition(":")
        outer = self._get_keys().get(key_id)
        if outer is None:
            raise CipherError(f"{data_id} is encrypted under key {key_id!r}: give that key too")
        inner = _open(_create_aead(outer), wrapped, data_id)
        return _open(_create_aead(inner), content, data_id).decode()

    def _get_keys(self) -> Mapping[str, bytes]:
        keys = self._keys() if callable(self._keys) else self._keys
        if not keys:
            raise CipherError("AesGcmCipher has no key: give at least one")
        return keys


class NacosAesCipher:
    """The format of Nacos' own AES plugin (`cipher-aes-…`), for documents of Java clients.

    That plugin stores the data key unwrapped beside the content and derives the initialisation
    vector from it: it protects the content from a glance, but not from a reader of the whole
    document. Use AesGcmCipher for anything new.

    Source: `AesEncryptionPluginService` of nacos-group/nacos-plugin.
    """

    algorithm = "aes"

    def __init__(self) -> None:
        _require_cryptography()

    def encrypt(self, data_id: str, content: str) -> tuple[str, str]:
        """The cipher text and the key of a document, as the Java plugin writes them."""
        from cryptography.hazmat.primitives.padding import PKCS7

        del data_id
        key = os.urandom(16).hex()
        padder = PKCS7(128).padder()
        padded = padder.update(content.encode()) + padder.finalize()
        encryptor = _create_cbc(key).encryptor()
        cipher_text = encryptor.update(padded) + encryptor.finalize()
        return cipher_text.hex(), base64.b64encode(key.encode()).decode()

    def decrypt(self, data_id: str, content: str, encrypted_data_key: str) -> str:
        """The clear text.

        Raises:
            CipherError: key or content are not what the plugin writes.
        """
        from cryptography.hazmat.primitives.padding import PKCS7

        try:
            key = base64.b64decode(encrypted_data_key, validate=True).decode("ascii")
            decryptor = _create_cbc(key).decryptor()
            padded = decryptor.update(bytes.fromhex(content)) + decryptor.finalize()
            unpadder = PKCS7(128).unpadder()
            return (unpadder.update(padded) + unpadder.finalize()).decode()
        except ValueError as error:
            raise CipherError(f"{data_id} is not encrypted as Nacos' AES plugin does") from error


def encrypt_content(
    ciphers: Sequence[ConfigCipher], data_id: str, content: str
) -> tuple[str, str | None]:
    """Content and wrapped key to publish; the same content where the data id names no cipher."""
    cipher = _find_cipher(ciphers, data_id)
    return (content, None) if cipher is None else cipher.encrypt(data_id, content)


def decrypt_config(ciphers: Sequence[ConfigCipher], config: Config) -> Config:
    """The document with decrypted content; the same document when it is not encrypted.

    Raises:
        CipherError: there is no cipher for it, or it cannot be decrypted.
    """
    if not config.data_id.startswith(_PREFIX) or not config.encrypted_data_key:
        return config
    cipher = _find_cipher(ciphers, config.data_id)
    if cipher is None:
        algorithm = config.data_id.split("-")[1]
        raise CipherError(
            f"{config.data_id} is encrypted with {algorithm!r}: give a cipher for it as ciphers=[…]"
        )
    clear = cipher.decrypt(config.data_id, config.content, config.encrypted_data_key)
    return replace(config, content=clear)


def _find_cipher(ciphers: Sequence[ConfigCipher], data_id: str) -> ConfigCipher | None:
    for cipher in ciphers:
        if data_id.startswith(f"{_PREFIX}{cipher.algorithm}-"):
            return cipher
    return None


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "encrypted configuration needs: pip install 'nacos-client[crypto]'"
        ) from error


def _create_aead(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key)
    except ValueError as error:
        raise CipherError("an AES key must have 16, 24 or 32 bytes") from error


def _seal(aead: AESGCM, clear: bytes, data_id: str) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return base64.b64encode(nonce + aead.encrypt(nonce, clear, data_id.encode())).decode()


def _open(aead: AESGCM, sealed: str, data_id: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        raw = base64.b64decode(sealed, validate=True)
        return aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], data_id.encode())
    except (InvalidTag, ValueError) as error:
        raise CipherError(
            f"{data_id} cannot be decrypted: wrong key, or it was written under another name"
        ) from error


def _create_cbc(key: str) -> Cipher[CBC]:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(bytes.fromhex(key)), modes.CBC(key[:16].encode()))
