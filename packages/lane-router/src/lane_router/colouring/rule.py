"""One colouring rule: when it applies, to which share of the requests, and for how long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .conditions import Condition, GatewayRequest, Subject

__all__ = ("Rule", "WarmUp")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A share that grows from 0 to the rule's percentage: `(uptime / seconds) ^ curvature`.

    Attributes:
        since: the start, seconds since 1970.
        seconds: the duration.
        curvature: 1 = linear; above 1 = slow at first.
    """

    since: float
    seconds: float
    curvature: float = 2.0

    def factor(self, now: float) -> float:
        """The part of the share that is reached at `now` (seconds since 1970), from 0 to 1."""
        uptime = max(0.0, now - self.since)
        return float(min(1.0, uptime / self.seconds) ** self.curvature)


@dataclass(frozen=True, slots=True)
class Rule:
    """One valid rule.

    Attributes:
        condition: which requests it is for; None = all.
        priority: the smallest wins; of equal ones, the first in the document.
        share: the part of the keys it applies to, from 0 to 1.
        key: the value of a request that decides its share, e.g. a user id; None = no share, the
            rule is for every request that matches.
        expires_at: the end of the rule, seconds since 1970; None = never.
    """

    name: str
    lane: str
    condition: Condition | None = None
    priority: int = 100
    share: float = 1.0
    key: Subject | None = None
    warm_up: WarmUp | None = None
    expires_at: float | None = None
    enabled: bool = True

    def reason_to_skip(self, request: GatewayRequest, now: float) -> str:
        """Why the rule does not apply to the request at `now`; empty when it applies."""
        if not self.enabled:
            return "it is switched off"
        if self.expires_at is not None and now >= self.expires_at:
            return "it has expired"
        if self.condition is not None and not self.condition(request):
            return "the request does not match"
        share = self.share * (self.warm_up.factor(now) if self.warm_up else 1.0)
        return "" if share >= 1.0 else self._reason_outside_share(request, share)

    def _reason_outside_share(self, request: GatewayRequest, share: float) -> str:
        value = self.key(request) if self.key else None
        if value is None:
            return "the request does not have the key that decides its share"
        if _position(self.name, value) >= share:
            return f"the key is not in the share of {share:.2%}"
        return ""


def _position(rule: str, key: str) -> float:
    """The place of a key in [0, 1): the same on every replica, and another one for each rule."""
    # blake2b and not hash(): that is seeded anew in each process.
    digest = hashlib.blake2b(
        f"{rule}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") / 2.0**64
