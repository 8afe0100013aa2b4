"""Which values of a configuration are secrets, and how they are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from .data import iter_leaves
from .placeholders import Resolver

__all__ = ("MASK", "find_keys_with_secrets", "find_secret_keys", "mask_secrets")

MASK = "******"
_SECRET_NAME = re.compile(r"(?i)passw|secret|token|credential|api_?key|private_?key|access_?key")


def find_secret_keys(model: type[BaseModel]) -> frozenset[str]:
    """Return the dotted keys of the model's fields that are `SecretStr` or `SecretBytes`."""
    return frozenset(_iter_secret_fields(model, "", (model,)))


def find_keys_with_secrets(
    data: Mapping[str, object], secret_keys: AbstractSet[str]
) -> frozenset[str]:
    """Return the keys whose placeholders put in a secret, such as a URL with a password.

    Args:
        data: before its placeholders are replaced; each of them names a key.
        secret_keys: as for `mask_secrets`.
    """
    return frozenset(
        key for key, value in iter_leaves(data) if _uses_secret(value, data, secret_keys)
    )


def mask_secrets(key: str, value: object, secret_keys: AbstractSet[str] = frozenset()) -> object:
    """Return the value at a key as people may see it.

    Args:
        secret_keys: dotted keys whose values are masked with everything below them, besides the
            keys whose name suggests a secret.
    """
    if _is_secret(key, secret_keys):
        return MASK
    return _mask_inside(value)


def _iter_secret_fields(
    model: type[BaseModel], prefix: str, parents: tuple[type[BaseModel], ...]
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        for kind in _iter_classes(info.annotation):
            if issubclass(kind, SecretStr | SecretBytes):
                yield key
            elif issubclass(kind, BaseModel) and kind not in parents:
                yield from _iter_secret_fields(kind, f"{key}.", (*parents, kind))


def _iter_classes(annotation: object) -> Iterator[type]:
    """Yield the classes that an annotation is made of: `list[Db] | None` is Db, list, NoneType."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _iter_classes(part)


def _uses_secret(value: object, data: Mapping[str, object], secret_keys: AbstractSet[str]) -> bool:
    if "${" not in str(value):
        return False
    resolver = Resolver(data)
    resolver.resolve(value)
    # A placeholder may also name a mapping that holds a secret further down.
    return any(
        _is_secret(key, secret_keys)
        or any(secret_key.startswith(f"{key}.") for secret_key in secret_keys)
        for key in resolver.used_keys
    )


def _is_secret(key: str, secret_keys: AbstractSet[str]) -> bool:
    """Whether the key, or a mapping that contains it, is a secret."""
    parts = key.split(".")
    prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return bool(_SECRET_NAME.search(key)) or any(prefix in secret_keys for prefix in prefixes)


def _mask_inside(value: object) -> object:
    """Mask what has a secret's name inside the lists and mappings of a value."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _SECRET_NAME.search(str(key)) else _mask_inside(child)
            for key, child in value.items()
        }
    return [_mask_inside(child) for child in value] if isinstance(value, list) else value
