"""Problem documents: what an HTTP API says about an error, in a form programs can read.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import httpx

__all__ = ("ProblemDocument",)

_LONGEST = 65_536  # bytes; a longer body is no problem document worth holding
_MEMBERS = ("type", "title", "status", "detail", "instance")


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """The members of RFC 9457; what a member lacks is empty, what more there is, in `extensions`.

    Attributes:
        type: a URI reference that names the kind of problem.
        status: the status the server meant; the response's own when it says none.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str = ""
    extensions: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, response: httpx.Response) -> Self | None:
        """The problem a response that was read carries; None when it is no problem document.

        A member of the wrong kind is ignored, as the RFC asks for.
        """
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/problem+json" or len(response.content) > _LONGEST:
            return None
        try:
            found = json.loads(response.content)
        except (ValueError, RecursionError):
            return None
        return cls._from(found, response.status_code) if isinstance(found, dict) else None

    @classmethod
    def _from(cls, found: dict[str, object], status: int) -> Self:
        def text(name: str, default: str = "") -> str:
            value = found.get(name)
            return value if isinstance(value, str) else default

        told = found.get("status")
        return cls(
            type=text("type", "about:blank"),
            title=text("title"),
            status=told if isinstance(told, int) and not isinstance(told, bool) else status,
            detail=text("detail"),
            instance=text("instance"),
            extensions=MappingProxyType(
                {name: value for name, value in found.items() if name not in _MEMBERS}
            ),
        )

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.title, self.detail) if part)
        return said or self.type
