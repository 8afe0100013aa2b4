"""Colouring rules: which request gets which lane, at the gateway; and why."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from .conditions import Condition, GatewayRequest, Subject

__all__ = ("ColouringRules", "Explanation", "Rule", "Step", "WarmUp")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A share that grows from 0 to the rule's percentage: `(uptime / seconds) ^ curvature`.

    Attributes:
        since: when it began, seconds since 1970.
        seconds: how long it takes.
        curvature: 1 = evenly; above 1 = slowly at first.
    """

    since: float
    seconds: float
    curvature: float = 2.0

    def factor(self, now: float) -> float:
        """From 0 to 1."""
        uptime = max(0.0, now - self.since)
        return float(min(1.0, uptime / self.seconds) ** self.curvature)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked.

    Attributes:
        priority: the smallest wins; of equal ones, the first in the file.
        share: of the keys, from 0 to 1.
        key: what a share is stable by, e.g. a user id; None = the share is everybody.
        expires_at: from when on the rule counts no more, seconds since 1970.
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

    def verdict(self, request: GatewayRequest, now: float) -> str:
        """Why it does not apply; empty when it does."""
        if not self.enabled:
            return "it is switched off"
        if self.expires_at is not None and now >= self.expires_at:
            return "it has expired"
        if self.condition is not None and not self.condition(request):
            return "the request does not match"
        share = self.share * (self.warm_up.factor(now) if self.warm_up else 1.0)
        return "" if share >= 1.0 else self._left_out(request, share)

    def _left_out(self, request: GatewayRequest, share: float) -> str:
        value = self.key(request) if self.key else None
        if value is None:
            return "the request lacks the key that the share goes by"
        if _position(self.name, value) >= share:
            return f"the key is not among the {share:.2%} that are let in"
        return ""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one rule; `reason` is empty for the one that won."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which rule won and why the ones before it did not.

    Attributes:
        lane: None = no rule applies: no lane.
        rule: the name of the one that won; empty = none.
    """

    lane: str | None
    rule: str
    steps: tuple[Step, ...]


class ColouringRules:
    """Rules in the order they are asked; immutable.

    A share is stable: who is let in at 10 % is also let in at 20 %, on every replica.
    """

    __slots__ = ("_rules", "_wall_clock")

    def __init__(self, *rules: Rule, wall_clock: Callable[[], float] = time.time) -> None:
        self._rules = tuple(sorted(rules, key=lambda rule: rule.priority))
        self._wall_clock = wall_clock

    def __len__(self) -> int:
        return len(self._rules)

    def lane_for(self, request: GatewayRequest) -> str | None:
        """The lane of the first rule that applies; None when none does."""
        now = self._wall_clock()
        for rule in self._rules:
            if not rule.verdict(request, now):
                return rule.lane
        return None

    def explain(self, request: GatewayRequest) -> Explanation:
        """The same, told step by step."""
        now = self._wall_clock()
        steps: list[Step] = []
        for rule in self._rules:
            steps.append(Step(rule.name, rule.verdict(request, now)))
            if not steps[-1].reason:
                return Explanation(rule.lane, rule.name, tuple(steps))
        return Explanation(None, "", tuple(steps))

    @classmethod
    def parse(
        cls, document: object, *, wall_clock: Callable[[], float] = time.time
    ) -> ColouringRules:
        """The rules of `{"rules": [...]}`.

        Raises:
            RulesError: naming the rule, the field, the value and what is allowed.
        """
        from .rule_document import parse_rules

        return cls(*parse_rules(document), wall_clock=wall_clock)

    @classmethod
    def read(
        cls,
        text: str,
        content_type: str = "json",
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> ColouringRules:
        """The rules in a text of the type `json`, `toml` or `yaml`.

        Raises:
            RulesError: it cannot be read, or breaks a rule.
            MissingDependencyError: YAML without the extra `yaml`.
        """
        from .rule_document import read_document

        return cls.parse(read_document(text, content_type), wall_clock=wall_clock)


def _position(rule: str, key: str) -> float:
    digest = hashlib.blake2b(f"{rule}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
