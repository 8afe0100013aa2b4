"""Load balancers and their stages: smooth weighted round robin, peak EWMA, ketama, Maglev and more."""

from .balancer import Balancer, Key
from .create import create, names
from .lease import Lease
from .least_active import LeastActive
from .peak_ewma import PeakEwma
from .power_of_two_choices import PowerOfTwoChoices
from .random_choice import Random
from .round_robin import RoundRobin
from .smooth_weighted_round_robin import SmoothWeightedRoundRobin
from .weighted_random import WeightedRandom

__all__ = (
    "Balancer",
    "Key",
    "Lease",
    "LeastActive",
    "PeakEwma",
    "PowerOfTwoChoices",
    "Random",
    "RoundRobin",
    "SmoothWeightedRoundRobin",
    "WeightedRandom",
    "create",
    "names",
)
