"""The fake server's requests and responses, whether they come by socket or by ASGI."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = (
    "FakeRequest",
    "FakeResponse",
    "Refusal",
    "build_failure",
    "build_spring_error",
    "build_success",
    "build_text",
)


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request. Parameters of the query and of a form are one mapping, as in a servlet."""

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    peer: str = "127.0.0.1"

    @classmethod
    def parse(
        cls,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes = b"",
    ) -> FakeRequest:
        """A request from its parts on the wire; header names in lower case."""
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            parameters |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        return cls(method, path, parameters, headers, body)

    def get(self, name: str, default: str = "") -> str:
        """A parameter; the default when it is missing or blank."""
        return self.parameters.get(name) or default

    def get_flag(self, name: str, default: bool = False) -> bool:
        """A parameter that is `true` or `false`."""
        return self.get(name, str(default)).lower() == "true"

    def require(self, *names: str) -> None:
        """Refuse the request when one of these parameters is missing.

        Raises:
            Refusal: one is missing.
        """
        for name in names:
            if not self.get(name).strip():
                missing = f"Required parameter '{name}' type String is not present"
                raise Refusal(build_failure(400, 10000, "parameter missing", missing))


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """One response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - a response, not an error of the server
    """Ends the handling of a request with this response."""

    def __init__(self, response: FakeResponse) -> None:
        super().__init__(response.status)
        self.response = response


def _build_json(status: int, document: object) -> FakeResponse:
    body = json.dumps(document, ensure_ascii=False).encode()
    return FakeResponse(status, body, {"content-type": "application/json"})


def build_success(data: object) -> FakeResponse:
    """A successful result: code 0."""
    return _build_json(200, {"code": 0, "message": "success", "data": data})


def build_failure(status: int, code: int, message: str, data: object = None) -> FakeResponse:
    """A result with an error code."""
    return _build_json(status, {"code": code, "message": message, "data": data})


def build_bare(document: object) -> FakeResponse:
    """A document without code and message, as the response to a login."""
    return _build_json(200, document)


def build_spring_error(status: int, error: str, message: str, path: str) -> FakeResponse:
    """The document that Spring makes of an exception."""
    return _build_json(
        status,
        {
            "timestamp": "2026-01-01T00:00:00.000+00:00",
            "status": status,
            "error": error,
            "message": message,
            "path": path,
        },
    )


def build_page(request: FakeRequest, entries: Sequence[object]) -> FakeResponse:
    """The requested page of a list."""
    number, size = int(request.get("pageNo", "1")), int(request.get("pageSize", "100"))
    return build_success(
        {
            "totalCount": len(entries),
            "pageNumber": number,
            "pagesAvailable": math.ceil(len(entries) / size),
            "pageItems": list(entries[(number - 1) * size : number * size]),
        }
    )


def build_text(status: int, message: str) -> FakeResponse:
    """A response in plain text, as servlet filters write it."""
    return FakeResponse(status, message.encode(), {"content-type": "text/plain;charset=UTF-8"})
