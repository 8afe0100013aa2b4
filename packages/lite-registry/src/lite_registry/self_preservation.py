"""Which lapsed leases are kept: many at once mean a broken network rather than dead instances.

The idea and the name are Eureka's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ("SelfPreservation", "match_replacements")


@dataclass(frozen=True, slots=True)
class SelfPreservation:
    """When lapsed leases are kept.

    An overdue lease is removed nevertheless once another instance of its service replaces it: one
    that registered after the last renewal of the overdue lease and has renewed since. So a node
    that died does not stay in the lists when its pods are up elsewhere.

    Attributes:
        share: the share of all leases that may lapse within `window_seconds`; 1 turns it off.
        least: this many may lapse whatever the share.
        longest_seconds: after that an overdue lease is removed, whatever the others do.
    """

    share: float = 0.3
    least: int = 10
    window_seconds: float = 30.0
    longest_seconds: float = 900.0

    def count_allowed(self, present: int, lapsed_lately: int) -> int:
        """The number of leases that may lapse now.

        Args:
            present: the number of leases.
            lapsed_lately: how many lapsed within the window.
        """
        return max(self.least, int(self.share * (present + lapsed_lately))) - lapsed_lately


def match_replacements(
    overdue: Iterable[tuple[float, str]], candidates: Iterable[tuple[float, str]]
) -> list[tuple[str, str]]:
    """Pairs of an overdue instance and the one that replaces it, as many as possible.

    Args:
        overdue: when each instance renewed last, and its id.
        candidates: when each instance registered that renews and has not replaced one, and its id.
    """
    pairs: list[tuple[str, str]] = []
    waiting = sorted(overdue)
    for registered_at, candidate in sorted(candidates):
        if len(pairs) < len(waiting) and registered_at > waiting[len(pairs)][0]:
            pairs.append((waiting[len(pairs)][1], candidate))
    return pairs
