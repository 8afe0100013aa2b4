"""Stable hashes of keys: the same in every process, whatever `PYTHONHASHSEED` is.

Fast ones are for keys of one's own. Whoever chooses the keys can steer all of them to one endpoint;
when clients do, take `keyed_hash` with a secret that all balancers share.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from struct import Struct

from microservice_core import InvalidValueError, MissingDependencyError

__all__ = ("KeyHash", "key_hash", "keyed_hash", "xxh64")

KeyHash = Callable[[bytes], int]
"""From a key to a whole number below 2**32 (below 2**64 for an Envoy-compatible balancer)."""

_FIRST_WORD = Struct("<I").unpack_from


def keyed_hash(secret: bytes) -> KeyHash:
    """BLAKE2s with a secret: nobody without it can tell where a key goes.

    Raises:
        InvalidValueError: the secret is not of 16 to 32 bytes.
    """
    if not 16 <= len(secret) <= 32:
        raise InvalidValueError("secret", f"<{len(secret)} bytes>", "16 to 32 bytes")
    fresh = hashlib.blake2s(key=secret, digest_size=4).copy

    def keyed(key: bytes) -> int:
        state = fresh()
        state.update(key)
        word: int = _FIRST_WORD(state.digest())[0]
        return word

    return keyed


def md5_word(key: bytes) -> int:
    """The first four bytes of the MD5, little-endian, as ketama hashes keys."""
    word: int = _FIRST_WORD(hashlib.md5(key, usedforsecurity=False).digest())[0]
    return word


def blake2b_word(key: bytes) -> int:
    """Four bytes of BLAKE2b, little-endian."""
    word: int = _FIRST_WORD(hashlib.blake2b(key, digest_size=4).digest())[0]
    return word


def xxh64() -> Callable[..., int]:
    """XXH64, as Envoy hashes: `xxh64()(data, seed)`.

    Raises:
        MissingDependencyError: the extra `xxhash` is not installed.
    """
    try:
        from xxhash import xxh64_intdigest
    except ImportError:
        raise MissingDependencyError("XXH64", "microservice-lb[xxhash]") from None
    digest: Callable[..., int] = xxh64_intdigest
    return digest


_BY_NAME: dict[str, KeyHash] = {"crc32": zlib.crc32, "md5": md5_word, "blake2b": blake2b_word}


def key_hash(choice: str | KeyHash, *, bits: int = 32) -> KeyHash:
    """The hash of that name: `crc32` (fast), `md5` (ketama's), `blake2b`, `xxh64`; or the callable.

    Raises:
        InvalidValueError: there is no such hash.
        MissingDependencyError: `xxh64` without the extra `xxhash`.
    """
    if choice == "xxh64":
        wide = xxh64()
        return wide if bits == 64 else lambda key: wide(key) >> 32
    hashed = choice if callable(choice) else _BY_NAME.get(choice)
    if hashed is None:
        names = ", ".join([*_BY_NAME, "xxh64"])
        raise InvalidValueError("hash", choice, f"a callable or one of {names}")
    return hashed
