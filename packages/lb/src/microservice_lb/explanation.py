"""Why an endpoint was chosen, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from microservice_core import Endpoint

__all__ = ("Explanation",)

E = TypeVar("E", bound=Endpoint)


@dataclass(frozen=True, slots=True)
class Explanation(Generic[E]):
    """One pick and the reasons for it, outermost stage first.

    Attributes:
        endpoint: who was picked.
        steps: a line per stage and algorithm; meant for people, not for programs.
    """

    endpoint: E
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.steps, f"-> {self.endpoint.instance_id}"])
