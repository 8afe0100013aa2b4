# Copied from packages/microservice-core/src/microservice_core/_documents/json_reader.py by scripts/copy_shared.py: change it there.
"""JSON: its bounds are checked on the text, before a value is built."""

from __future__ import annotations

import contextlib
import json
import re

from lite_registry.errors import DocumentError

from .bounds import Document

__all__ = ("read_json",)

_WORDS = ("true", "false", "null")
# Possessive, so that the time is linear in the length of the text.
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]++|\\.)*+")
    |(?P<number>-?[0-9][-+.0-9eE]*+)
    |(?P<word>[A-Za-z]++)
    |(?P<open>[\[{])
    |(?P<close>[\]}])""",
    re.VERBOSE | re.DOTALL,
)


def read_json(document: Document) -> object:
    """The data of a JSON document.

    Raises:
        DocumentError: it is not JSON, or exceeds a bound.
    """
    _check_tokens(document)
    try:
        return json.loads(document.text)
    except json.JSONDecodeError as error:
        rule = f"must be JSON ({error.msg.partition(':')[0]})"
        raise document.build_error(rule, line=error.lineno) from None


def _check_tokens(document: Document) -> None:
    depth = values = 0
    for token in _TOKEN.finditer(document.text):
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        values += token.lastgroup != "close"
        try:
            document.check_depth(depth)
            document.check_count(values)
            _check_token(document, token)
        except DocumentError as error:
            line = document.find_line(token.start())
            raise document.build_error(error.rule, line=line) from None


def _check_token(document: Document, token: re.Match[str]) -> None:
    if token.lastgroup == "text":
        _check_text(document, token)
    elif token.lastgroup == "number":
        document.check_digits(token[0])
        document.check_number(_read_number(token[0]))
    elif token.lastgroup == "word" and token[0] not in _WORDS:
        raise document.build_error("must be JSON (Expecting value)")


def _check_text(document: Document, token: re.Match[str]) -> None:
    text = token[0]
    if "\\u" in text:
        with contextlib.suppress(json.JSONDecodeError):  # the parser says so, with its reason
            text = str(json.loads(text))
    document.check_text(text)
    if document.text[token.end() : token.end() + 8].lstrip().startswith(":"):
        document.check_key(text)


def _read_number(literal: str) -> float:
    try:
        return float(literal)
    except ValueError:  # not a number at all: the parser says so
        return 0.0
