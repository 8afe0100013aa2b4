"""Keys of limits: which values are keys, and the one text that stands for each of them."""

from __future__ import annotations

import hashlib
from typing import TypeAlias
from urllib.parse import quote_from_bytes

from microservice_core import InvalidValueError

__all__ = ("LimitKey", "check_cost", "encode_key")

LimitKey: TypeAlias = "str | int | bytes | tuple[LimitKey, ...]"
"""What a limit by key may be kept by, in this process and in Redis alike. The empty text is a key as
any other; `True` is 1. Keys of different types are different keys, as 42 and `"42"`."""

_MAX_LENGTH = 200
_MAX_DEPTH = 8
_PREFIX_LENGTH = 32
_LARGE_INT = 10**18  # str() refuses to write an int of some thousand digits

# Braces would end the hash tag of a key in Redis early. What begins with a single `%` is never a text.
_ESCAPES = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})
_ESCAPES_IN_TUPLE = {**_ESCAPES, ord(","): "%2C", ord("("): "%28", ord(")"): "%29"}


def encode_key(key: object) -> str:
    """The text that stands for `key`; different keys have different texts.

    | key | text |
    |---|---|
    | `"user:7"` | `user:7`; `{`, `}` and `%` become `%7B`, `%7D` and `%25` |
    | `42` | `%i42`; from 10**18 on in base 16, `%i0xde0b6b3a7640000` |
    | `b"user:7"` | `%buser%3A7`, percent-encoded |
    | `("orders", 7)` | `%(orders,%i7,)`; `,`, `(` and `)` of a text in it are escaped, too |
    | longer than 200 characters | its first 32, `%#` and the SHA-256 of the whole |

    A lone surrogate, which JSON can contain, stays one; in Redis it is encoded as `surrogatepass` does.

    Raises:
        InvalidValueError: `key` is of another type, or a tuple nested more than 8 deep.
    """
    if type(key) is str and len(key) <= _MAX_LENGTH:
        if "%" in key or "{" in key or "}" in key:
            return _shorten(key.translate(_ESCAPES))
        return key
    return _shorten(_encode(key, 0))


def check_cost(cost: object) -> None:
    """Check a number of units.

    Raises:
        InvalidValueError: it is not a whole number, or negative.
    """
    if not isinstance(cost, int):
        raise InvalidValueError("cost", cost, "a whole number, at least 0")
    if cost < 0:
        raise InvalidValueError("cost", cost, "at least 0")


def _encode(key: object, depth: int) -> str:
    if isinstance(key, str):
        return str.translate(key, _ESCAPES_IN_TUPLE if depth else _ESCAPES)
    if isinstance(key, int):
        number = int(key)
        return f"%i{number}" if -_LARGE_INT < number < _LARGE_INT else f"%i{number:#x}"
    if isinstance(key, bytes):
        return f"%b{quote_from_bytes(key, safe='')}"
    if isinstance(key, tuple) and depth < _MAX_DEPTH:
        return f"%({''.join(f'{_encode(part, depth + 1)},' for part in key)})"
    raise InvalidValueError(
        "key", type(key), "a str, int or bytes, or a tuple of them nested at most 8 deep"
    )


def _shorten(text: str) -> str:
    """Callers choose the key and its length; the length of what is stored is bounded."""
    if len(text) <= _MAX_LENGTH:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:_PREFIX_LENGTH]}%#{digest}"
