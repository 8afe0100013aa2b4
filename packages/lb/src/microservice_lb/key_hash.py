"""Stable hashes of keys: the same in every process, whatever `PYTHONHASHSEED` is.

The fast ones are for keys that your service chooses. A client that chooses the keys can steer all
of them to one endpoint; use `keyed_hash` then, with a secret that all balancers share.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from struct import Struct

from microservice_core import InvalidValueError, MissingDependencyError

__all__ = ("KeyHash", "key_hash", "keyed_hash", "xxh64")

KeyHash = Callable[[bytes], int]
"""Maps a key to an integer below 2**32 (below 2**64 for an Envoy-compatible balancer)."""

_FIRST_WORD = Struct("<I").unpack_from


def keyed_hash(secret: bytes) -> KeyHash:
    """Make a hash by BLAKE2s with a secret, without which no client can predict the endpoint.

    Raises:
        InvalidValueError: the secret does not have 16 to 32 bytes.
    """
    if not 16 <= len(secret) <= 32:
        raise InvalidValueError("secret", f"<{len(secret)} bytes>", "16 to 32 bytes")
    # Copying a state that has absorbed the secret is much cheaper than starting with the secret.
    copy_state = hashlib.blake2s(key=secret, digest_size=4).copy

    def hash_key(key: bytes) -> int:
        state = copy_state()
        state.update(key)
        word: int = _FIRST_WORD(state.digest())[0]
        return word

    return hash_key


def md5_word(key: bytes) -> int:
    """Hash to the first four bytes of the MD5, little-endian, as ketama does."""
    word: int = _FIRST_WORD(hashlib.md5(key, usedforsecurity=False).digest())[0]
    return word


def blake2b_word(key: bytes) -> int:
    """Hash to four bytes of BLAKE2b, little-endian."""
    word: int = _FIRST_WORD(hashlib.blake2b(key, digest_size=4).digest())[0]
    return word


def xxh64() -> Callable[..., int]:
    """Import XXH64, the hash of Envoy: `xxh64()(data, seed)`.

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
    """Find a hash by name, or return `choice` if it is a callable.

    Args:
        choice: `crc32` (the fastest), `md5` (of ketama), `blake2b`, `xxh64`, or a callable.
        bits: 32, or 64 for positions of an Envoy-compatible balancer.

    Raises:
        InvalidValueError: there is no hash of that name.
        MissingDependencyError: `xxh64` without the extra `xxhash`.
    """
    if choice == "xxh64":
        digest = xxh64()
        return digest if bits == 64 else lambda key: digest(key) >> 32
    function = choice if callable(choice) else _BY_NAME.get(choice)
    if function is None:
        names = ", ".join([*_BY_NAME, "xxh64"])
        raise InvalidValueError("hash", choice, f"a callable or one of {names}")
    return function
