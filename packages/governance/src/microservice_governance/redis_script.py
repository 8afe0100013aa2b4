"""GCRA in one Lua script: whole microseconds, the server's clock, all limits of a key at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from microservice_core import InvalidValueError

from .limit_config import Decision, LimitConfig

__all__ = ("SCRIPT", "SCRIPT_SHA", "Grant", "RedisLimits", "read_grant")

MICROSECONDS = 1_000_000

# KEYS: one per limit. ARGV: the time in microseconds or '' for the server's own, the least and the
# most units to take, then emission and tolerance of each limit in microseconds. Gives the units
# taken (0 when the least would not pass), those that would still pass, the time until the least
# would pass (-1 when it did, or never can) and until every burst is whole again.
#
# A stored time too far ahead was written before the clock stepped back: it is cut to what the limit
# itself can reach. Whatever is stored and no number counts as nothing.
SCRIPT = """
local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
end
local least, take = tonumber(ARGV[2]), tonumber(ARGV[3])
local retry, never, arrivals, cut = -1, false, {}, {}
for i, key in ipairs(KEYS) do
  local emission, tolerance = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local stored = redis.pcall('GET', key)
  local arrival = type(stored) == 'string' and tonumber(stored) or 0
  if arrival ~= arrival then arrival = 0 end
  cut[i] = arrival > now + tolerance
  arrival = math.min(math.max(arrival, now), now + tolerance)
  arrivals[i] = arrival
  local early = arrival + least * emission - tolerance - now
  if least * emission > tolerance then never = true end
  if early > retry and early > 0 then retry = early end
  take = math.min(take, math.floor((tolerance - arrival + now) / emission))
end
local taken = 0
if retry < 0 and not never then taken = take end
local remaining, reset
for i, key in ipairs(KEYS) do
  local emission, tolerance = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local arrival = arrivals[i] + taken * emission
  local left = math.floor((tolerance - arrival + now) / emission)
  if not remaining or left < remaining then remaining = left end
  if not reset or arrival - now > reset then reset = arrival - now end
  if taken > 0 or cut[i] then
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
  end
end
if never then retry = -1 end
local allowed = 0
if retry < 0 and not never then allowed = 1 end
return {allowed, taken, remaining, retry, reset}
"""

SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


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
        self._rules: list[int] = []
        for limit in limits:
            emission = limit.emission(MICROSECONDS)
            self._rules += [emission, limit.capacity * emission]
        self.capacity = min(limit.capacity for limit in limits)
        self.emission_seconds = max(limit.emission(MICROSECONDS) for limit in limits) / MICROSECONDS

    def keys(self, key: str) -> list[str]:
        """The keys in Redis. What is in braces decides the slot, so that all limits share one.

        Braces of the key itself are escaped: they would end the tag early.
        """
        tag = f"rl:{{{self._name}:{_shortened(key.translate(_ESCAPED))}}}"
        if len(self.limits) == 1:
            return [tag]
        return [f"{tag}{number}" for number in range(len(self.limits))]

    def arguments(self, key: str, least: int, most: int, now: int | None) -> list[str | int]:
        """Everything that follows the script in EVALSHA: number of keys, keys, arguments."""
        keys = self.keys(key)
        return [len(keys), *keys, "" if now is None else now, least, most, *self._rules]


def _shortened(key: str) -> str:
    """A key that callers choose may be of any length; what is stored is not."""
    if len(key) <= _LONGEST:
        return key
    return key[:32] + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


_LONGEST = 200
_ESCAPED = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})


def read_grant(answer: Sequence[int]) -> Grant:
    """The script's answer, read."""
    allowed, taken, remaining, retry, reset = (int(number) for number in answer)
    wait = retry / MICROSECONDS if retry >= 0 else -1.0
    return Grant(Decision(bool(allowed), max(0, remaining), wait, reset / MICROSECONDS), taken)
