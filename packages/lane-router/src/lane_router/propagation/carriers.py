"""The two carriers of a lane: the header `x-lane` and, beside it, a member of W3C `baggage`."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Literal, NamedTuple

from lane_router.context.lane_classes import ANY_LANE, LaneClasses
from lane_router.context.lane_name import HEADER, PROD, is_lane
from lane_router.observer import DropReason
from microservice_core import InvalidValueError

from . import otel_baggage
from .baggage import read_members, with_member, without_member

__all__ = (
    "BAGGAGE",
    "BAGGAGE_KEY",
    "NO_LANE",
    "Carriers",
    "Preference",
    "RawField",
    "Reading",
    "check_header",
    "encode_headers",
)

BAGGAGE = "baggage"
BAGGAGE_KEY = "lane"

Preference = Literal["header", "baggage"]

# A header field as httpx keeps it: (name as sent, name in lower case, value).
RawField = tuple[bytes, bytes, bytes]

_MOST_CACHED = 256

_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")


def check_header(header: str) -> str:
    """Return the header name unchanged if it is valid.

    Raises:
        InvalidValueError: it is not a header name in lower case, contains `_`, or is `baggage`.
    """
    if not _TOKEN.fullmatch(header) or header == BAGGAGE:
        raise InvalidValueError("header", header, "a header name in lower case, without _")
    return header


class Reading(NamedTuple):
    """The lane that a request or message names.

    Attributes:
        lane: None = it names no lane, or none that can be accepted.
        problem: why the lane it names is not accepted.
    """

    lane: str | None
    problem: DropReason | None


NO_LANE = Reading(None, None)


class Carriers:
    """Reads both carriers as one lane and writes one lane into both.

    Args:
        header: the lane's own header.
        baggage_key: the member of `baggage`; None = only the header is used.
        prefer: the carrier that wins when the two disagree; None = neither.
        classes: the lanes that are accepted when read.

    Raises:
        InvalidValueError: an invalid header name, key or preference.
    """

    __slots__ = ("_classes", "_prefer", "_raw_headers", "baggage_key", "header", "raw_header")

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
        self._raw_headers: dict[str, tuple[RawField, ...]] = {}
        if baggage_key is not None and not _TOKEN.fullmatch(baggage_key):
            raise InvalidValueError("baggage_key", baggage_key, "a token in lower case")
        if prefer not in {"header", "baggage", None}:
            raise InvalidValueError("prefer", prefer, "'header', 'baggage' or None")
        self.baggage_key = baggage_key
        self._prefer = prefer
        self._classes = classes

    def read(self, values: Sequence[str], baggage: Sequence[str] = ()) -> Reading:
        """The lane named by the values of the lane's header and of the baggage header together."""
        lanes = values
        if (baggage or otel_baggage.is_loaded()) and self.baggage_key is not None:
            members = self._read_baggage(baggage)
            if members:
                lanes = self._reconcile(values, members)
        if not lanes:
            return NO_LANE
        if len(lanes) > 1:
            return Reading(None, "duplicate" if lanes is values else "conflict")
        lane = lanes[0]
        if not is_lane(lane):
            return Reading(None, "duplicate" if "," in lane else "invalid")
        return Reading(lane, None) if self._classes.allows(lane) else Reading(None, "refused")

    def _read_baggage(self, baggage: Sequence[str]) -> list[str]:
        key = str(self.baggage_key)
        members = [value for header in baggage for value in read_members(header, key)]
        # OpenTelemetry may have consumed the header and keep its members in its own context.
        if not baggage and (value := otel_baggage.read_value(key)) is not None:
            members = [value]
        return members

    def _reconcile(self, values: Sequence[str], members: Sequence[str]) -> Sequence[str]:
        """One value where the carriers agree or only one is there, else the preferred, else both."""
        if not values:
            return members
        if self._prefer == "header" or list(values) == list(members):
            return values
        return members if self._prefer == "baggage" else [*values, *members]

    def read_mapping(self, headers: Mapping[str, object]) -> Reading:
        """The lane named by the headers of a message, whose values may be text or bytes."""
        values = [headers[self.header]] if self.header in headers else []
        baggage = [headers[BAGGAGE]] if BAGGAGE in headers else []
        return self.read(list(map(_decode, values)), list(map(_decode, baggage)))

    def write(self, headers: MutableMapping[str, str], lane: str) -> None:
        """Put the lane into both carriers; a lane header that is already set wins."""
        lane = headers.setdefault(self.header, lane)
        if self.baggage_key is None:
            return
        baggage = headers.get(BAGGAGE)
        if baggage:
            headers[BAGGAGE] = with_member(baggage, self.baggage_key, lane)
        else:
            headers[BAGGAGE] = f"{self.baggage_key}={lane}"

    def strip(self, headers: MutableMapping[str, str]) -> None:
        """Remove the lane from both carriers; the other members of the baggage stay."""
        if self.header in headers:
            del headers[self.header]
        if self.baggage_key is None or BAGGAGE not in headers:
            return
        baggage = headers[BAGGAGE]
        others = without_member(baggage, self.baggage_key)
        if not others:
            del headers[BAGGAGE]
        elif others != baggage:
            headers[BAGGAGE] = others

    def headers_for(self, lane: str | None) -> dict[str, str]:
        """Both carriers for a request that has none yet; empty without a lane and in `prod`."""
        headers: dict[str, str] = {}
        if lane is not None and lane != PROD:
            self.write(headers, lane)
        return headers

    def raw_headers_for(self, lane: str | None) -> tuple[RawField, ...]:
        """`headers_for` as raw header fields; the result is cached for the first 256 lanes."""
        if lane is None:
            return ()
        fields = self._raw_headers.get(lane)
        if fields is None:
            fields = tuple(encode_headers(self.headers_for(lane)))
            if len(self._raw_headers) < _MOST_CACHED:
                self._raw_headers[lane] = fields
        return fields


def encode_headers(headers: Mapping[str, str]) -> list[RawField]:
    """Headers with names in lower case as raw header fields."""
    names = ((name.encode("ascii"), value) for name, value in headers.items())
    return [(name, name, value.encode("latin-1")) for name, value in names]


def _decode(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    # The text of any other type is no lane name, so it is read as invalid.
    return value if isinstance(value, str) else repr(type(value))
