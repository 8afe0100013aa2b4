"""Load balancers and their stages: smooth weighted round robin, peak EWMA, ketama, Maglev and more."""

from .balancer import Balancer, Key
from .create import create, names
from .lease import Lease
from .random_choice import Random
from .round_robin import RoundRobin
from .smooth_weighted_round_robin import SmoothWeightedRoundRobin
from .weighted_random import WeightedRandom

__all__ = (
    "Balancer",
    "Key",
    "Lease",
    "Random",
    "RoundRobin",
    "SmoothWeightedRoundRobin",
    "WeightedRandom",
    "create",
    "names",
)
