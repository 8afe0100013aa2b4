"""What HTTP can carry: a request that cannot be sent is refused before an instance is chosen.

Sources: RFC 9110, 5.1 "Field Names", 5.5 "Field Values", 8.6 "Content-Length", 9.1 "Methods".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

import httpx

from microservice_core import InvalidValueError

__all__ = ("require_ascii_headers", "require_sendable")

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TEXT = rb"(?:[!-~\x80-\xff]++(?:[ \t]++[!-~\x80-\xff]++)*+)?+"
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(_TEXT)
# All headers at once, names and values in turn, each on a line of its own.
_HEADERS = re.compile(rb"(?:" + _TOKEN + rb"\n" + _TEXT + rb"(?:\n|\Z))*+")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH"})
_LENGTH = "content-length"
_MAX_SHOWN = 60

_NAME_RULE = "letters, digits and !#$%&'*+-.^_`|~, at least one"
_VALUE_RULE = "visible characters, with spaces and tabs only between them; quote or encode others"


def require_sendable(request: httpx.Request) -> list[tuple[bytes, bytes]]:
    """Return the request's raw headers, if HTTP can carry the request.

    Raises:
        InvalidValueError: the method, a header's name or value, or the declared length of the body
            breaks a rule of HTTP. The message never has the header's value, which may be a secret.
    """
    raw = request.headers.raw
    lines = b"\n".join(chain.from_iterable(raw))
    if lines.count(b"\n") != 2 * len(raw) - 1 or _HEADERS.fullmatch(lines) is None:
        _refuse_header(raw)
    if b"content-length\n" in lines.lower():
        _require_length(request)
    if request.method not in _METHODS and not _is_token(request.method):
        raise InvalidValueError("method", request.method[:_MAX_SHOWN], _NAME_RULE)
    return raw


def require_ascii_headers(headers: Mapping[str, str]) -> None:
    """Refuse the first header that is not ASCII text.

    Raises:
        InvalidValueError: there is one.
    """
    for name, value in headers.items():
        if not name.isascii():
            raise InvalidValueError("name of a header", name[:_MAX_SHOWN], _NAME_RULE)
        if not value.isascii():
            raise _value_error(name, "a value that is not ASCII")


def _refuse_header(raw: list[tuple[bytes, bytes]]) -> None:
    for name, value in raw:
        shown = name.decode("latin-1")
        if _NAME.fullmatch(name) is None:
            raise InvalidValueError("name of a header", shown[:_MAX_SHOWN], _NAME_RULE)
        if _VALUE.fullmatch(value) is None:
            raise _value_error(shown, _describe(value))


def _value_error(name: str, problem: str) -> InvalidValueError:
    return InvalidValueError(f"value of the header {name[:_MAX_SHOWN]!r}", problem, _VALUE_RULE)


def _describe(value: bytes) -> str:
    if b"\n" in value or b"\r" in value:
        return "a value with a line end"
    if value[:1] in b" \t" or value[-1:] in b" \t":
        return "a value with white space at its ends"
    return "a value with a control character"


def _require_length(request: httpx.Request) -> None:
    declared = request.headers.get(_LENGTH)
    if declared is None:  # only the end of another header's name
        return
    if not (declared.isascii() and declared.isdigit()):
        raise _value_error(_LENGTH, "a value that is no number")
    stream = request.stream
    if isinstance(stream, httpx.ByteStream) and int(declared[:19]) != (
        length := sum(map(len, stream))
    ):
        rule = f"{length}, the number of bytes of the body"
        raise InvalidValueError(f"value of the header {_LENGTH!r}", declared[:_MAX_SHOWN], rule)


def _is_token(method: str) -> bool:
    return _NAME.fullmatch(method.encode("utf-8", "surrogatepass")) is not None
