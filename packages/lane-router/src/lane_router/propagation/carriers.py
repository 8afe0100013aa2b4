"""How the lane travels: in a header of its own and, beside it, as a member of W3C baggage."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Literal, NamedTuple

from lane_router.context.lane_classes import ANY_LANE, LaneClasses
from lane_router.context.lane_name import HEADER, PROD, is_lane
from lane_router.observer import Dropped
from microservice_core import InvalidValueError

from . import otel_baggage
from .baggage import members, with_member, without_member

__all__ = ("BAGGAGE", "BAGGAGE_KEY", "Carriers", "Preference", "Reading", "check_header")

BAGGAGE = "baggage"
BAGGAGE_KEY = "lane"

Preference = Literal["header", "baggage"]

RawField = tuple[bytes, bytes, bytes]

_MOST_KEPT = 256

_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")


def check_header(header: str) -> str:
    """A header name in lower case, or an error that names it."""
    if not _TOKEN.fullmatch(header) or header == BAGGAGE:
        raise InvalidValueError("header", header, "a header name in lower case, without _")
    return header


class Reading(NamedTuple):
    """What a message says about its lane.

    Attributes:
        lane: the lane; None = none, or none that can be believed.
        problem: why what was there is not believed.
    """

    lane: str | None
    problem: Dropped | None


NOTHING = Reading(None, None)


class Carriers:
    """Reads both carriers as one and writes both alike.

    Args:
        header: the lane's own header.
        baggage_key: the member of `baggage`; None = only the header is used.
        prefer: whom to believe when the two disagree; None = neither.

    Raises:
        InvalidValueError: no such header name, key or preference.
    """

    __slots__ = ("_classes", "_prefer", "_raw", "baggage_key", "header", "raw_header")

    def __init__(
        self,
        *,
        header: str = HEADER,
        baggage_key: str | None = BAGGAGE_KEY,
        prefer: Preference | None = None,
        classes: LaneClasses = ANY_LANE,
    ) -> None:
        self.header = check_header(header)
        self.raw_header = header.encode("ascii")
        self._raw: dict[str, tuple[RawField, ...]] = {}
        if baggage_key is not None and not _TOKEN.fullmatch(baggage_key):
            raise InvalidValueError("baggage_key", baggage_key, "a token in lower case")
        if prefer not in {"header", "baggage", None}:
            raise InvalidValueError("prefer", prefer, "'header', 'baggage' or None")
        self.baggage_key = baggage_key
        self._prefer = prefer
        self._classes = classes

    def read(self, values: Sequence[str], baggage: Sequence[str] = ()) -> Reading:
        """What the values of the lane's header and of the baggage header say together."""
        told = values
        if (baggage or otel_baggage.loaded()) and self.baggage_key is not None:
            others = self._in_baggage(baggage)
            if others:
                told = self._agreed(values, others)
        if not told:
            return NOTHING
        if len(told) > 1:
            return Reading(None, "duplicate" if told is values else "conflict")
        lane = told[0]
        if not is_lane(lane):
            return Reading(None, "duplicate" if "," in lane else "invalid")
        return Reading(lane, None) if self._classes.allows(lane) else Reading(None, "refused")

    def _in_baggage(self, baggage: Sequence[str]) -> list[str]:
        key = str(self.baggage_key)
        found = [value for header in baggage for value in members(header, key)]
        if not baggage and (ambient := otel_baggage.read(key)) is not None:
            found = [ambient]
        return found

    def _agreed(self, values: Sequence[str], others: Sequence[str]) -> Sequence[str]:
        """One value where both say the same or only one says anything, else what is preferred."""
        if not values:
            return others
        if self._prefer == "header" or list(values) == list(others):
            return values
        return others if self._prefer == "baggage" else [*values, *others]

    def read_mapping(self, headers: Mapping[str, object]) -> Reading:
        """The same from the headers of a message; values may be text or bytes."""
        values = [headers[self.header]] if self.header in headers else []
        baggage = [headers[BAGGAGE]] if BAGGAGE in headers else []
        return self.read([_text(one) for one in values], [_text(one) for one in baggage])

    def write(self, headers: MutableMapping[str, str], lane: str) -> None:
        """Put the lane into both; a lane header that is there already stays."""
        lane = headers.setdefault(self.header, lane)
        if self.baggage_key is None:
            return
        kept = headers.get(BAGGAGE)
        if kept:
            headers[BAGGAGE] = with_member(kept, self.baggage_key, lane)
        else:
            headers[BAGGAGE] = f"{self.baggage_key}={lane}"

    def strip(self, headers: MutableMapping[str, str]) -> None:
        """Take the lane out of both; what else is in the baggage is not ours."""
        if self.header in headers:
            del headers[self.header]
        if self.baggage_key is None or BAGGAGE not in headers:
            return
        kept = headers[BAGGAGE]
        left = without_member(kept, self.baggage_key)
        if not left:
            del headers[BAGGAGE]
        elif left != kept:
            headers[BAGGAGE] = left

    def headers_of(self, lane: str | None) -> dict[str, str]:
        """Both carriers for a message that has none yet; empty without a lane and in `prod`."""
        headers: dict[str, str] = {}
        if lane is not None and lane != PROD:
            self.write(headers, lane)
        return headers

    def raw_fields_of(self, lane: str | None) -> tuple[RawField, ...]:
        """The same as bytes, kept for the lanes that are sent again and again."""
        if lane is None:
            return ()
        found = self._raw.get(lane)
        if found is None:
            found = tuple(self.raw_fields(self.headers_of(lane)))
            if len(self._raw) < _MOST_KEPT:
                self._raw[lane] = found
        return found

    def raw_fields(self, headers: Mapping[str, str]) -> list[RawField]:
        """(name as sent, name in lower case, value) of each, as httpx keeps them."""
        names = ((name.encode("ascii"), value) for name, value in headers.items())
        return [(name, name, value.encode("latin-1")) for name, value in names]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else repr(type(value))
