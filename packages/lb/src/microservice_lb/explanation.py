"""The reasons why a balancer chose an endpoint, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from .node import E

__all__ = ("Explanation",)


@dataclass(frozen=True, slots=True)
class Explanation(Generic[E]):
    """One pick and the reasons for it, outermost stage first.

    Attributes:
        endpoint: the endpoint that was picked.
        steps: one line per stage and algorithm, to be read, not parsed.
    """

    endpoint: E
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.steps, f"-> {self.endpoint.instance_id}"])
