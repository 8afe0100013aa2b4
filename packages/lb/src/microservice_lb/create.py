"""Balancers by name, for configuration files."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from microservice_core import InvalidValueError

from .bounded_load import BoundedLoad
from .consistent_hash import ConsistentHash
from .least_active import LeastActive
from .maglev import Maglev
from .peak_ewma import PeakEwma
from .power_of_two_choices import PowerOfTwoChoices
from .random_choice import Random
from .rendezvous import Rendezvous
from .ring_hash import RingHash
from .round_robin import RoundRobin
from .smooth_weighted_round_robin import SmoothWeightedRoundRobin
from .weighted_random import WeightedRandom

if TYPE_CHECKING:
    from collections.abc import Callable

    from .balancer import Balancer
    from .node import E

__all__ = ("create", "names")

_BY_NAME: dict[str, type] = {
    "random": Random,
    "weighted_random": WeightedRandom,
    "round_robin": RoundRobin,
    "smooth_weighted_round_robin": SmoothWeightedRoundRobin,
    "least_active": LeastActive,
    "power_of_two_choices": PowerOfTwoChoices,
    "peak_ewma": PeakEwma,
    "ring_hash": RingHash,
    "maglev": Maglev,
    "rendezvous": Rendezvous,
}
_ALIASES = {
    "rr": "round_robin",
    "wr": "weighted_random",
    "wrr": "smooth_weighted_round_robin",
    "swrr": "smooth_weighted_round_robin",
    "la": "least_active",
    "least_request": "least_active",
    "least_connections": "least_active",
    "p2c": "power_of_two_choices",
    "ewma": "peak_ewma",
    "ring": "ring_hash",
    "consistent_hash": "ring_hash",
    "hrw": "rendezvous",
    "smooth_wrr": "smooth_weighted_round_robin",
}


def names() -> tuple[str, ...]:
    """Return the names that `create` accepts, aliases included, sorted."""
    return tuple(sorted({*_BY_NAME, *_ALIASES}))


def create(name: str, /, *, bounded_load: float | None = None, **options: object) -> Balancer[E]:
    """Create a balancer by its name.

    Args:
        name: one of `names()`; case does not matter, and `-` may stand for `_`.
        bounded_load: the factor of a `BoundedLoad` around a hash balancer; None = no bound.
        options: keyword arguments of the balancer's class.

    Raises:
        InvalidValueError: there is no balancer of that name, or an option is not valid.
        TypeError: the balancer has no such option.
    """
    normalized = name.lower().replace("-", "_")
    kind = _BY_NAME.get(_ALIASES.get(normalized, normalized))
    if kind is None:
        raise InvalidValueError("name", name, f"one of {', '.join(names())}")
    balancer: Balancer[E] = cast("Callable[..., Balancer[E]]", kind)(**options)
    if bounded_load is None:
        return balancer
    if not isinstance(balancer, ConsistentHash):
        rule = f"omitted for {name!r}, which hashes no keys"
        raise InvalidValueError("bounded_load", bounded_load, rule)
    return BoundedLoad(balancer, factor=bounded_load)
