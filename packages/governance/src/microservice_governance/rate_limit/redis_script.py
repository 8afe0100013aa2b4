"""GCRA in Lua: whole microseconds, the server's clock, all limits of a key at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, cast

from microservice_core import InvalidValueError

from .config import Decision, LimitConfig

__all__ = ("Grant", "RedisLimits", "read_grant")

MICROSECONDS = 1_000_000

# Both scripts give one line: the units taken; those that would still pass; the time until the least
# would pass, -1 when it did and -2 when it never can; the time until every burst is whole again.
# They take the server's own clock when no time is given. A stored time too far ahead was written
# before the clock stepped back: it is cut to what the limit itself can reach, and kept so, or it
# would be ahead for ever. Whatever is stored and no number counts as nothing.

# One limit. ARGV: the least units to take, emission and tolerance, the most units (the least when
# not given), the time.
ONE = """
local least, emission, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local most, now = tonumber(ARGV[4]), tonumber(ARGV[5])
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
local taken, early = 0, arrival + least * emission - tolerance - now
if early <= 0 then
  early = -1
  taken = least
  if most and most > least then
    taken = math.min(most, math.floor((tolerance - arrival + now) / emission))
  end
  arrival = arrival + taken * emission
elseif least * emission > tolerance then
  early = -2
end
if taken > 0 or cut then
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
end
local left = math.floor((tolerance - arrival + now) / emission)
return string.format('%.0f %.0f %.0f %.0f', taken, left, early, arrival - now)
"""

# Several limits: all are looked at before one is touched. ARGV: the least and the most units to
# take, the time or '', then emission and tolerance of each limit.
SEVERAL = """
local least, take, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
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
  local early = arrivals[i] + least * emission - tolerance - now
  if least * emission > tolerance then
    retry = -2
  elseif early > 0 and early > retry and retry ~= -2 then
    retry = early
  end
  take = math.min(take, math.floor((tolerance - arrivals[i] + now) / emission))
end
local taken, left, reset = 0, nil, nil
if retry == -1 then taken = take end
for i, key in ipairs(KEYS) do
  local emission, tolerance = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local arrival = arrivals[i] + taken * emission
  local mine = math.floor((tolerance - arrival + now) / emission)
  if not left or mine < left then left = mine end
  if not reset or arrival - now > reset then reset = arrival - now end
  if taken > 0 or cut[i] then
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
  end
end
return string.format('%.0f %.0f %.0f %.0f', taken, left, retry, reset)
"""


class Grant(NamedTuple):
    """What the script gave: a decision, and how many units were taken."""

    decision: Decision
    taken: int


class RedisLimits:
    """The limits of one limiter, as keys and arguments of the script.

    Raises:
        InvalidValueError: there is no limit, or one is faster than one unit per microsecond.
    """

    def __init__(self, limits: Sequence[LimitConfig], name: str) -> None:
        if not limits:
            raise InvalidValueError("limits", tuple(limits), "one limit or more")
        for limit in limits:
            if limit.rate > limit.per_seconds * MICROSECONDS:
                raise InvalidValueError("rate", limit.rate, "at most 1000000 per second in Redis")
        if not name or set(name) & set("{}"):
            raise InvalidValueError("name", name, "a text without braces")
        self.limits = tuple(limits)
        self._name = name
        rules: list[int] = []
        for limit in limits:
            emission = limit.emission(MICROSECONDS)
            rules += [emission, limit.capacity * emission]
        self._rules = [b"%d" % rule for rule in rules]
        self._count = b"%d" % len(limits)
        self.capacity = min(limit.capacity for limit in limits)
        self.emission_seconds = max(limit.emission(MICROSECONDS) for limit in limits) / MICROSECONDS
        self.script = ONE if len(limits) == 1 else SEVERAL
        self.sha = hashlib.sha1(self.script.encode(), usedforsecurity=False).hexdigest().encode()

    def keys(self, key: str) -> list[str]:
        """The keys in Redis. What is in braces decides the slot, so that all limits share one.

        Braces of the key itself are escaped: they would end the tag early.
        """
        tag = f"rl:{{{self._name}:{_shortened(key.translate(_ESCAPED))}}}"
        if len(self.limits) == 1:
            return [tag]
        return [f"{tag}{number}" for number in range(len(self.limits))]

    def arguments(self, key: str, least: int, most: int, now: int | None) -> list[bytes | str]:
        """Everything that follows the script in EVALSHA: number of keys, keys, arguments."""
        units = b"%d" % least
        time = b"" if now is None else b"%d" % now
        if self.script is SEVERAL:
            return [self._count, *self.keys(key), units, b"%d" % most, time, *self._rules]
        arguments: list[bytes | str] = [b"1", *self.keys(key), units, *self._rules]
        if most > least or time:
            arguments += [b"%d" % most, time]
        return arguments


def _shortened(key: str) -> str:
    """A key that callers choose may be of any length; what is stored is not."""
    if len(key) <= _LONGEST:
        return key
    return key[:32] + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


_LONGEST = 200
_ESCAPED = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})


def read_grant(answer: object) -> Grant:
    """The script's answer, read.

    Raises:
        ConnectionError: it is none; whoever answers is no Redis, or is not well.
    """
    try:
        taken, left, retry, reset = map(int, cast("bytes | str", answer).split())
    except (AttributeError, ValueError):
        raise ConnectionError("the answer to the limit's script cannot be read") from None
    wait = retry / MICROSECONDS if retry >= 0 else -1.0
    return Grant(Decision(retry == -1, max(0, left), wait, reset / MICROSECONDS), taken)
