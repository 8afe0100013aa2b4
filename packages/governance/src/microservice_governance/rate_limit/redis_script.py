"""GCRA as a Lua script: whole microseconds, the server's clock, all limits of a key at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, cast

from microservice_core import InvalidValueError
from microservice_governance._redis import is_encodable

from .config import Decision, LimitConfig

__all__ = ("Grant", "RedisLimits", "read_grant")

_MICROSECONDS = 1_000_000

# Both scripts return one line of four numbers: the units taken; the units that are still free; the
# time until the minimum would pass (-1: it has passed, -2: it never can); the time until every burst
# is free again. They use the server's clock unless a time is given. A stored time too far in the
# future was written before the clock stepped back: it is cut to the latest the limit itself can
# reach, and stored again, or it would stay in the future. A stored value that is not a number counts
# as none.

# One limit. ARGV: the minimum of units to take, emission and tolerance, the maximum of units (the
# minimum if not given), the time.
_ONE_LIMIT = """
local minimum, emission, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local maximum, now = tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local stored, arrival, cut = redis.pcall('GET', KEYS[1]), now, false
if type(stored) == 'string' then
  local number = tonumber(stored)
  if number and number > now then arrival = number end
end
if arrival > now + tolerance then
  arrival = now + tolerance
  cut = true
end
local taken, early = 0, arrival + minimum * emission - tolerance - now
if early <= 0 then
  early = -1
  taken = minimum
  if maximum and maximum > minimum then
    taken = math.min(maximum, math.floor((tolerance - arrival + now) / emission))
  end
  arrival = arrival + taken * emission
elseif minimum * emission > tolerance then
  early = -2
end
if taken > 0 or cut then
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
end
local free = math.floor((tolerance - arrival + now) / emission)
return string.format('%.0f %.0f %.0f %.0f', taken, free, early, arrival - now)
"""

# Several limits: all are read before one is changed. ARGV: the minimum and the maximum of units to
# take, the time or '', then emission and tolerance of each limit.
_SEVERAL_LIMITS = """
local minimum, take, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local retry, arrivals, cut = -1, {}, {}
for i, key in ipairs(KEYS) do
  local emission, tolerance = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local stored, arrival = redis.pcall('GET', key), now
  if type(stored) == 'string' then
    local number = tonumber(stored)
    if number and number > now then arrival = number end
  end
  cut[i] = arrival > now + tolerance
  arrivals[i] = math.min(arrival, now + tolerance)
  local early = arrivals[i] + minimum * emission - tolerance - now
  if minimum * emission > tolerance then
    retry = -2
  elseif early > 0 and early > retry and retry ~= -2 then
    retry = early
  end
  take = math.min(take, math.floor((tolerance - arrivals[i] + now) / emission))
end
local taken, free, reset = 0, nil, nil
if retry == -1 then taken = take end
for i, key in ipairs(KEYS) do
  local emission, tolerance = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local arrival = arrivals[i] + taken * emission
  local free_here = math.floor((tolerance - arrival + now) / emission)
  if not free or free_here < free then free = free_here end
  if not reset or arrival - now > reset then reset = arrival - now end
  if taken > 0 or cut[i] then
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
  end
end
return string.format('%.0f %.0f %.0f %.0f', taken, free, retry, reset)
"""


class Grant(NamedTuple):
    """The result of a script: the decision, and the units that were taken."""

    decision: Decision
    units: int


class RedisLimits:
    """The limits of one limiter, as keys and arguments of its script.

    Raises:
        InvalidValueError: there is no limit, or one is faster than one unit per microsecond.
    """

    def __init__(self, limits: Sequence[LimitConfig], name: str) -> None:
        if not limits:
            raise InvalidValueError("limits", tuple(limits), "one limit or more")
        for limit in limits:
            if limit.rate > limit.per_seconds * _MICROSECONDS:
                raise InvalidValueError("rate", limit.rate, "at most 1000000 per second in Redis")
        if not name or set(name) & set("{}") or not is_encodable(name):
            raise InvalidValueError("name", name, "a text that UTF-8 can encode, without braces")
        self.limits = tuple(limits)
        self._name = name
        rules: list[int] = []
        for limit in limits:
            emission = limit.emission(_MICROSECONDS)
            rules += [emission, limit.capacity * emission]
        self._rules = [b"%d" % rule for rule in rules]
        self._count = b"%d" % len(limits)
        self.capacity = min(limit.capacity for limit in limits)
        self.emission_seconds = (
            max(limit.emission(_MICROSECONDS) for limit in limits) / _MICROSECONDS
        )
        self.script = _ONE_LIMIT if len(limits) == 1 else _SEVERAL_LIMITS
        self.sha = hashlib.sha1(self.script.encode(), usedforsecurity=False).hexdigest().encode()

    def keys(self, key: str) -> list[bytes]:
        """The keys in Redis. The part in braces is the hash tag, so that all limits share a slot.

        Args:
            key: as `encode_key` returns it; a brace would end the tag early.
        """
        tag = f"rl:{{{self._name}:{key}}}".encode("utf-8", "surrogatepass")
        if len(self.limits) == 1:
            return [tag]
        return [b"%b%d" % (tag, number) for number in range(len(self.limits))]

    def arguments(self, key: str, minimum: int, maximum: int, now: int | None) -> list[bytes]:
        """What follows the script in EVALSHA: the number of keys, the keys, the arguments."""
        units = b"%d" % minimum
        time = b"" if now is None else b"%d" % now
        if self.script is _SEVERAL_LIMITS:
            return [self._count, *self.keys(key), units, b"%d" % maximum, time, *self._rules]
        arguments = [b"1", *self.keys(key), units, *self._rules]
        if maximum > minimum or time:
            arguments += [b"%d" % maximum, time]
        return arguments


def read_grant(response: object) -> Grant:
    """Parse the response of a script.

    Raises:
        ConnectionError: it is not four numbers, so the server is not a working Redis.
    """
    try:
        units, remaining, retry, reset = map(int, cast("bytes | str", response).split())
    except (AttributeError, ValueError):
        raise ConnectionError("the response to the script of the limit is unreadable") from None
    wait = retry / _MICROSECONDS if retry >= 0 else -1.0
    return Grant(Decision(retry == -1, max(0, remaining), wait, reset / _MICROSECONDS), units)
