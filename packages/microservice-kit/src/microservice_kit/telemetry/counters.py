"""Counters of the kit, through opentelemetry-api; nothing is imported before the first count."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter

__all__ = ("count",)


def count(name: str, **labels: str) -> None:
    """Add one to the counter of that name; label values must come from small fixed sets."""
    _get_counter(name).add(1, labels)


@cache
def _get_counter(name: str) -> Counter:
    from opentelemetry import metrics

    return metrics.get_meter("microservice_kit").create_counter(name)
