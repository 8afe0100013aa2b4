"""Versions of a configuration: where each came from, and what differs between two of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from microservice_core import ConfigDeleted, ConfigResult

from .placeholders import Resolver

__all__ = (
    "MASK",
    "ConfigChange",
    "ConfigVersion",
    "KeyChange",
    "compare",
    "keys_with_secrets",
    "secret_keys",
    "shown",
)

ModelT = TypeVar("ModelT", bound=BaseModel)
ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)
Origin = Literal["center", "snapshot", "defaults", "rollback"]

MASK = "******"
_SECRET = re.compile(r"(?i)passw|secret|token|credential|api_?key|private_?key|access_?key")


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that differs.

    Attributes:
        key: with dots, such as `db.pool`.
        old, new: the values, None where there is none; `******` for a secret.
    """

    key: str
    kind: Literal["added", "removed", "changed"]
    old: object
    new: object


@dataclass(frozen=True, slots=True)
class ConfigVersion(Generic[ModelT_co]):
    """One state of the whole configuration.

    Attributes:
        id: counts up from 1 in this process.
        md5: the fingerprint of all documents together.
        sources: the fingerprint of each document by data id; empty where there is none.
        time: when it came into force here, UTC.
        origin: `center`, `snapshot` (the center was down), `defaults` (and no snapshot either) or
            `rollback`.
        model: the validated configuration.
    """

    id: int
    md5: str
    sources: Mapping[str, str]
    time: datetime
    origin: Origin
    model: ModelT_co = field(repr=False, compare=False)
    data: Mapping[str, object] = field(repr=False, compare=False)
    documents: tuple[ConfigResult | ConfigDeleted, ...] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ConfigChange(Generic[ModelT_co]):
    """What a listener is told: the configuration of now, and what differs from what it saw last.

    Attributes:
        current: the validated configuration.
        version: the version it belongs to.
        keys: what changed, by key; secrets are masked.
    """

    current: ModelT_co
    version: ConfigVersion[ModelT_co]
    keys: Mapping[str, KeyChange]


def compare(
    old: Mapping[str, object], new: Mapping[str, object], secret: AbstractSet[str] = frozenset()
) -> tuple[KeyChange, ...]:
    """The keys that differ, sorted; a list is one value.

    Args:
        secret: dotted keys whose values are masked with all below them, besides those whose name
            sounds like a secret.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            changes.append(KeyChange(key, "added", None, shown(key, after[key], secret)))
        elif key not in after:
            changes.append(KeyChange(key, "removed", shown(key, before[key], secret), None))
        elif before[key] != after[key] or type(before[key]) is not type(after[key]):
            both = shown(key, before[key], secret), shown(key, after[key], secret)
            changes.append(KeyChange(key, "changed", *both))
    return tuple(changes)


def secret_keys(model: type[BaseModel]) -> frozenset[str]:
    """The dotted keys of the model's fields that are `SecretStr` or `SecretBytes`."""
    return frozenset(_secret_fields(model, "", (model,)))


def _secret_fields(
    model: type[BaseModel], prefix: str, within: tuple[type[BaseModel], ...]
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        for kind in _kinds(info.annotation):
            if issubclass(kind, SecretStr | SecretBytes):
                yield key
            elif issubclass(kind, BaseModel) and kind not in within:
                yield from _secret_fields(kind, f"{key}.", (*within, kind))


def _kinds(annotation: object) -> Iterator[type]:
    """The classes an annotation is made of."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _leaves(data: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def keys_with_secrets(data: Mapping[str, object], secret: AbstractSet[str]) -> frozenset[str]:
    """The keys whose value is made of a secret by a placeholder, such as a URL with a password.

    Args:
        data: before its placeholders are replaced; they lead to something.
        secret: as for `compare`.
    """
    return frozenset(key for key, value in _leaves(data) if _uses_secret(value, data, secret))


def _uses_secret(value: object, data: Mapping[str, object], secret: AbstractSet[str]) -> bool:
    if "${" not in str(value):
        return False
    resolver = Resolver(data)
    resolver.resolve(value)
    return any(
        _is_secret(key, secret) or any(one.startswith(f"{key}.") for one in secret)
        for key in resolver.used
    )


def _is_secret(key: str, secret: AbstractSet[str]) -> bool:
    """Whether it, or what it lies in, is one."""
    parts = key.split(".")
    within = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return bool(_SECRET.search(key)) or any(one in secret for one in within)


def shown(key: str, value: object, secret: AbstractSet[str] = frozenset()) -> object:
    """The value at a key as people may see it; `compare` has the rules."""
    if _is_secret(key, secret):
        return MASK
    return _without_secrets(value)


def _without_secrets(value: object) -> object:
    """The value with whatever sounds like a secret inside its lists and mappings masked."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _SECRET.search(str(key)) else _without_secrets(one)
            for key, one in value.items()
        }
    return [_without_secrets(one) for one in value] if isinstance(value, list) else value
