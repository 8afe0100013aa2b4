# Copied from packages/microservice-core/src/microservice_core/_documents/yaml_scalars.py by scripts/copy_shared.py: change it there.
"""The values that YAML's scalars stand for, by the core schema of YAML 1.2 (section 10.3)."""

from __future__ import annotations

import re
from collections.abc import Callable

from .bounds import Document

__all__ = ("CORE", "UNKNOWN_TAG", "resolve_scalar")

CORE = "tag:yaml.org,2002:"
UNKNOWN_TAG = "must have no tags but those of the core schema of YAML 1.2"

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    name: name.lower() == "true" for name in ["true", "True", "TRUE", "false", "False", "FALSE"]
}
_DECIMAL = re.compile("[-+]?[0-9]++")
_PREFIXED = re.compile("0o[0-7]++|0x[0-9a-fA-F]++")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]++|[0-9]++(?:\.[0-9]*+)?)(?:[eE][-+]?[0-9]++)?")
_SPECIAL = re.compile(r"(?P<infinity>[-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_Resolver = Callable[[Document, str, int], object]


_NO_MATCH = object()  # the text is no value of that type


def resolve_scalar(
    document: Document, text: str, tag: str | None, line: int, *, plain: bool
) -> object:
    """The value of a scalar.

    Args:
        tag: the tag it is written with; None = none.
        plain: it has neither tag nor quotes, so that its text decides.

    Raises:
        DocumentError: the tag is unknown or does not fit; a number has too many digits.
    """
    document.check_text(text, line)
    if plain:
        return _resolve_plain(document, text, line)
    if tag in {None, "!", f"{CORE}str"}:
        return text
    resolver = _RESOLVERS.get((tag or "").removeprefix(CORE))
    if resolver is None:
        raise document.build_error(UNKNOWN_TAG, line=line)
    value = resolver(document, text, line)
    if value is _NO_MATCH:
        raise document.build_error("must have values that fit their tags", line=line)
    return value


def _resolve_plain(document: Document, text: str, line: int) -> object:
    for resolver in _RESOLVERS.values():
        value = resolver(document, text, line)
        if value is not _NO_MATCH:
            return value
    return text


def _resolve_null(_document: Document, text: str, _line: int) -> object:
    return None if text in _NULLS else _NO_MATCH


def _resolve_boolean(_document: Document, text: str, _line: int) -> object:
    return _BOOLEANS.get(text, _NO_MATCH)


def _resolve_integer(document: Document, text: str, line: int) -> object:
    if _DECIMAL.fullmatch(text):
        document.check_digits(text, line)
        return int(text)
    if _PREFIXED.fullmatch(text):
        document.check_digits(text, line)
        return int(text[2:], 8 if text[1] == "o" else 16)
    return _NO_MATCH


def _resolve_float(document: Document, text: str, line: int) -> object:
    special = _SPECIAL.fullmatch(text)
    if special is not None:
        sign = special["infinity"]
        return float("nan") if sign is None else float(f"{sign}inf")
    if not _FLOAT.fullmatch(text):
        return _NO_MATCH
    document.check_digits(text, line)
    number = float(text)
    document.check_number(number, line)
    return number


_RESOLVERS: dict[str, _Resolver] = {
    "null": _resolve_null,
    "bool": _resolve_boolean,
    "int": _resolve_integer,
    "float": _resolve_float,
}
