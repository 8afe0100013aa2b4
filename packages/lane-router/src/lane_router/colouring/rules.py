"""Colouring rules: which request gets which lane at the gateway, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .conditions import GatewayRequest
from .rule import Rule
from .rule_document import parse_rules, read_document

__all__ = ("ColouringRules", "Explanation", "Step")


@dataclass(frozen=True, slots=True)
class Step:
    """The evaluation of one rule; `reason` is why it does not apply, empty for the one that won."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which rule won, and why the ones before it did not apply.

    Attributes:
        lane: None = no rule applies, so no lane.
        rule: the name of the rule that won; empty = none.
        steps: the rules in the order of evaluation, up to the one that won.
    """

    lane: str | None
    rule: str
    steps: tuple[Step, ...]


class ColouringRules:
    """Rules in order of evaluation; immutable.

    A share is stable: a key that is in the share at 10 % is also in it at 20 %, on every replica.
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
            if not rule.reason_to_skip(request, now):
                return rule.lane
        return None

    def explain(self, request: GatewayRequest) -> Explanation:
        """`lane_for`, with the evaluation of each rule."""
        now = self._wall_clock()
        steps: list[Step] = []
        for rule in self._rules:
            steps.append(Step(rule.name, rule.reason_to_skip(request, now)))
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
        return cls(*parse_rules(document), wall_clock=wall_clock)

    @classmethod
    def read(
        cls,
        text: str | bytes,
        content_type: str = "json",
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> ColouringRules:
        """The rules in a text of the type `json`, `toml` or `yaml`.

        Raises:
            RulesError: the text is not of that type or too large, or a rule is invalid.
            MissingDependencyError: YAML without the extra `yaml`.
        """
        return cls.parse(read_document(text, content_type), wall_clock=wall_clock)
