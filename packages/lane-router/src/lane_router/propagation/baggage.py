"""One member of a W3C `baggage` header, read and written without touching the others.

The format is that of https://www.w3.org/TR/baggage/: members with commas between, percent-encoded
values, properties behind semicolons; at most 8192 bytes and 180 members.
"""

from __future__ import annotations

from urllib.parse import unquote

__all__ = ("LARGEST", "members", "with_member", "without_member")

LARGEST = 8192
_MOST_MEMBERS = 180


def members(header: str, key: str) -> list[str]:
    """The decoded values of this key; too large a header has none."""
    if len(header) > LARGEST or key not in header:
        return []
    return [unquote(value) for name, value in map(_pair, header.split(",")) if name == key]


def with_member(header: str, key: str, value: str) -> str:
    """The header with this member in it, the others as they were.

    A full one stays as it is: what others put there is not ours to drop.
    """
    kept = without_member(header, key)
    grown = f"{kept},{key}={value}" if kept else f"{key}={value}"
    if len(grown) > LARGEST or grown.count(",") >= _MOST_MEMBERS:
        return kept
    return grown


def without_member(header: str, key: str) -> str:
    """The header without members of this key, the others as they were; "" when none is left."""
    if key not in header:
        return header
    others = [one for one in header.split(",") if _pair(one)[0] != key]
    return ",".join(others) if any(map(str.strip, others)) else ""


def _pair(member: str) -> tuple[str, str]:
    name, _, rest = member.partition("=")
    return name.strip(" \t"), rest.partition(";")[0].strip(" \t")
