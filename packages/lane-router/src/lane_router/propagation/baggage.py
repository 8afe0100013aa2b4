"""One member of a W3C `baggage` header, read and written without touching the others.

The format is that of https://www.w3.org/TR/baggage/: members separated by commas, percent-encoded
values, properties after semicolons; at most 8192 bytes and 180 members.
"""

from __future__ import annotations

from urllib.parse import unquote

__all__ = ("LARGEST", "read_members", "with_member", "without_member")

LARGEST = 8192
_MOST_MEMBERS = 180


def read_members(header: str, key: str) -> list[str]:
    """The decoded values of this key; none if the header is larger than 8192 characters."""
    if len(header) > LARGEST or key not in header:
        return []
    return [unquote(value) for name, value in map(_split_member, header.split(",")) if name == key]


def with_member(header: str, key: str, value: str) -> str:
    """The header with this member added or replaced, the others unchanged.

    A header that would become too large is returned without the member: the members of others are
    not dropped to make room.
    """
    others = without_member(header, key)
    extended = f"{others},{key}={value}" if others else f"{key}={value}"
    if len(extended) > LARGEST or extended.count(",") >= _MOST_MEMBERS:
        return others
    return extended


def without_member(header: str, key: str) -> str:
    """The header without members of this key, the others unchanged; "" if no other remains."""
    if key not in header:
        return header
    others = [member for member in header.split(",") if _split_member(member)[0] != key]
    return ",".join(others) if any(map(str.strip, others)) else ""


def _split_member(member: str) -> tuple[str, str]:
    name, _, rest = member.partition("=")
    return name.strip(" \t"), rest.partition(";")[0].strip(" \t")
