"""TOML by the standard library's parser, whose messages are not repeated where they quote."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

from .bounds import DEPTH_RULE, MAX_DEPTH, Document

__all__ = ("read_toml",)

# A key of many parts takes the parser quadratic time. The expression itself is linear: it starts at
# the beginning of a part only, and gives nothing back.
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_DEPTH},}}+")
_PLACE = re.compile(r"(?P<reason>.*?) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")
# A message made of other characters may quote the document.
_PLAIN_REASON = re.compile(
    r"(?:Cannot overwrite a value|Expected|Invalid|Unclosed|Unterminated)[\w ]*"
)


def read_toml(document: Document) -> object:
    """The data of a TOML document.

    Raises:
        DocumentError: it is not TOML, or exceeds a bound.
    """
    long_key = _LONG_KEY.search(document.text)
    if long_key:
        document.check_depth(MAX_DEPTH + 1, document.find_line(long_key.start()))
    try:
        data = tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        raise _build_error(document, str(error)) from None
    except RecursionError:
        raise document.build_error(DEPTH_RULE) from None
    except ValueError:  # the one that is not the parser's own is about a number
        raise document.build_error("must have numbers and dates that can be read") from None
    _check_data(document, data)
    return data


def _build_error(document: Document, message: str) -> Exception:
    place = _PLACE.fullmatch(message)
    line = document.text.count("\n") + 1
    if place is not None and place["line"]:
        line = int(place["line"])
    reason = _PLAIN_REASON.match(place["reason"] if place is not None else "")
    rule = f"must be TOML ({reason[0].strip()})" if reason else "must be TOML"
    return document.build_error(rule, line=line)


def _check_data(document: Document, data: object) -> None:
    """Check the data level by level, which needs no stack."""
    level, depth, values = [data], 0, 0
    while level:
        depth += any(isinstance(value, dict | list) for value in level)
        values += len(level)
        document.check_depth(depth)
        document.check_count(values)
        for value in level:
            _check_value(document, value)
        level = [child for value in level for child in _iter_children(value)]


def _check_value(document: Document, value: object) -> None:
    if isinstance(value, dict):
        for key in value:
            document.check_key(key)
    elif isinstance(value, int | float):
        document.check_number(value, finite=False)


def _iter_children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()
