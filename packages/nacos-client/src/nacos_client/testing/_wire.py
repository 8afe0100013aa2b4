"""The fake server's requests and responses, whether they come by socket or by ASGI."""

from __future__ import annotations

import json
import math
import re
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


# The server's defaults: of a longer form it reads nothing, a longer part it refuses.
_MAX_FORM_BYTES = 2 * 1024 * 1024
_MAX_PART_BYTES = 1024 * 1024
_NAME = re.compile(rb'; name="([^"]*)"')


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request. Parameters of the query and of a form are one mapping, as in a servlet.

    `too_large` says that a part of a multipart form is longer than the server accepts.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    peer: str = "127.0.0.1"
    too_large: bool = False

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
        kind = headers.get("content-type", "")
        parts = _split_parts(kind, body) if kind.startswith("multipart/form-data") else []
        if kind.startswith("application/x-www-form-urlencoded") and len(body) <= _MAX_FORM_BYTES:
            parameters |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        parameters |= {name: value.decode() for name, value, is_file in parts if not is_file}
        too_large = any(len(value) > _MAX_PART_BYTES for _, value, _ in parts)
        return cls(method, path, parameters, headers, body, too_large=too_large)

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


def _split_parts(content_type: str, body: bytes) -> list[tuple[str, bytes, bool]]:
    """The parts of a multipart form: name, content, and whether it is a file."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    parts = []
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is not None:
            parts.append((name[1].decode(), content.removesuffix(b"\r\n"), b"filename=" in head))
    return parts


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
