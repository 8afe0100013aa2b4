"""Problem documents: machine-readable details of an error response.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self, cast

import httpx

__all__ = ("ProblemDocument",)

_MAX_BYTES = 65_536  # a longer body is not kept as a problem document
_MEMBERS = ("type", "title", "status", "detail", "instance")


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """The members of RFC 9457; a missing text is empty, further members are in `extensions`.

    Attributes:
        type: a URI reference that names the kind of problem.
        title, detail: what happened, in general and in this case.
        status: the status the document states; the response's own if it states none.
        instance: a URI reference of this occurrence.
        extensions: all members that RFC 9457 does not define.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str = ""
    extensions: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_response(cls, response: httpx.Response) -> Self | None:
        """Read the problem document of a response whose body was read; None if there is none.

        A member of the wrong type is ignored, as the RFC requires.
        """
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/problem+json" or len(response.content) > _MAX_BYTES:
            return None
        try:
            document = json.loads(response.content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        return cls._from_members(document, response.status_code)

    @classmethod
    def _from_members(cls, members: dict[str, object], response_status: int) -> Self:
        def text(name: str, default: str = "") -> str:
            value = members.get(name)
            return value if isinstance(value, str) else default

        status = members.get("status")
        # bool is an int, but `"status": true` is no status.
        stated = isinstance(status, int) and not isinstance(status, bool)
        return cls(
            type=text("type", "about:blank"),
            title=text("title"),
            status=cast("int", status) if stated else response_status,
            detail=text("detail"),
            instance=text("instance"),
            extensions=MappingProxyType(
                {name: value for name, value in members.items() if name not in _MEMBERS}
            ),
        )

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.title, self.detail) if part)
        return text or self.type
