"""Balancers by name, as a configuration file gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from microservice_core import InvalidValueError

from .least_active import LeastActive
from .peak_ewma import PeakEwma
from .power_of_two_choices import PowerOfTwoChoices
from .random_choice import Random
from .round_robin import RoundRobin
from .smooth_weighted_round_robin import SmoothWeightedRoundRobin
from .weighted_random import WeightedRandom

if TYPE_CHECKING:
    from collections.abc import Callable

    from .balancer import Balancer, E

__all__ = ("create", "names")

_BY_NAME: dict[str, type] = {
    "random": Random,
    "weighted_random": WeightedRandom,
    "round_robin": RoundRobin,
    "smooth_weighted_round_robin": SmoothWeightedRoundRobin,
    "least_active": LeastActive,
    "power_of_two_choices": PowerOfTwoChoices,
    "peak_ewma": PeakEwma,
}
_SHORT = {
    "rr": "round_robin",
    "wr": "weighted_random",
    "wrr": "smooth_weighted_round_robin",
    "swrr": "smooth_weighted_round_robin",
    "la": "least_active",
    "least_request": "least_active",
    "least_connections": "least_active",
    "p2c": "power_of_two_choices",
    "ewma": "peak_ewma",
    "smooth_wrr": "smooth_weighted_round_robin",
}


def names() -> tuple[str, ...]:
    """What `create` takes, the short aliases included, sorted."""
    return tuple(sorted({*_BY_NAME, *_SHORT}))


def create(name: str, /, **options: object) -> Balancer[E]:
    """Make a balancer; `options` are the keyword arguments of its class.

    Case does not matter, and `-` may stand for `_`.

    Raises:
        InvalidValueError: there is no balancer of that name, or an option breaks its rule.
        TypeError: the balancer takes no such option.
    """
    plain = name.lower().replace("-", "_")
    kind = _BY_NAME.get(_SHORT.get(plain, plain))
    if kind is None:
        raise InvalidValueError("name", name, f"one of {', '.join(names())}")
    return cast("Callable[..., Balancer[E]]", kind)(**options)
