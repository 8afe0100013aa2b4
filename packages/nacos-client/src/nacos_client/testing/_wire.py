"""What a request and an answer are to the fake server, however they travelled."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Call", "Refusal", "Reply", "failure", "spring_error", "success", "text")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Parameters of the query and of a form are one mapping, as in a servlet."""

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    peer: str = "127.0.0.1"

    @classmethod
    def of(
        cls,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes = b"",
    ) -> Call:
        """From what came over the wire; header names in lower case."""
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            parameters |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        return cls(method, path, parameters, headers, body)

    def get(self, name: str, default: str = "") -> str:
        """A parameter; a blank one counts as missing."""
        return self.parameters.get(name) or default

    def flag(self, name: str, default: bool = False) -> bool:
        """A parameter that is `true` or `false`."""
        return self.get(name, str(default)).lower() == "true"

    def need(self, *names: str) -> None:
        """Refuse the call when one of these is missing."""
        for name in names:
            if not self.get(name).strip():
                missing = f"Required parameter '{name}' type String is not present"
                raise Refusal(failure(400, 10000, "parameter missing", missing))


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - an answer on its way out
    """Ends the handling of a call with this answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def _json(status: int, document: object) -> Reply:
    body = json.dumps(document, ensure_ascii=False).encode()
    return Reply(status, body, {"content-type": "application/json"})


def success(data: object) -> Reply:
    """A result with code 0."""
    return _json(200, {"code": 0, "message": "success", "data": data})


def failure(status: int, code: int, message: str, data: object = None) -> Reply:
    """A result with an error code."""
    return _json(status, {"code": code, "message": message, "data": data})


def bare(document: object) -> Reply:
    """A document without the envelope: login answers so."""
    return _json(200, document)


def spring_error(status: int, error: str, message: str, path: str) -> Reply:
    """What Spring makes of an exception."""
    return _json(
        status,
        {
            "timestamp": "2026-01-01T00:00:00.000+00:00",
            "status": status,
            "error": error,
            "message": message,
            "path": path,
        },
    )


def page_of(call: Call, entries: Sequence[object]) -> Reply:
    """The page a call asks for."""
    number, size = int(call.get("pageNo", "1")), int(call.get("pageSize", "100"))
    return success(
        {
            "totalCount": len(entries),
            "pageNumber": number,
            "pagesAvailable": math.ceil(len(entries) / size),
            "pageItems": list(entries[(number - 1) * size : number * size]),
        }
    )


def text(status: int, words: str) -> Reply:
    """A plain text answer, as servlet filters write it."""
    return Reply(status, words.encode(), {"content-type": "text/plain;charset=UTF-8"})
