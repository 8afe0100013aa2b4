"""Load balancers and their stages: smooth weighted round robin, peak EWMA, ketama, Maglev and more."""

from .balancer import Balancer, Key
from .bounded_load import BoundedLoad
from .consistent_hash import ConsistentHash
from .create import create, names
from .key_hash import KeyHash, keyed_hash
from .lease import Lease
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

__all__ = (
    "Balancer",
    "BoundedLoad",
    "ConsistentHash",
    "Key",
    "KeyHash",
    "Lease",
    "LeastActive",
    "Maglev",
    "PeakEwma",
    "PowerOfTwoChoices",
    "Random",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SmoothWeightedRoundRobin",
    "WeightedRandom",
    "create",
    "keyed_hash",
    "names",
)
