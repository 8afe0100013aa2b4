"""Load balancers and their stages: smooth weighted round robin, peak EWMA, ketama, Maglev and more."""

from .balancer import Balancer, Key
from .bounded_load import BoundedLoad
from .consistent_hash import ConsistentHash
from .create import create, names
from .explanation import Explanation
from .health_filter import HealthFilter, WeightFilter
from .key_hash import KeyHash, keyed_hash
from .lease import Lease, NeutralOutcome
from .least_active import LeastActive
from .maglev import Maglev
from .observer import BalancerObserver, ObservedBalancer, OtelObserver
from .outlier_ejection import OutlierConfig, OutlierEjection
from .peak_ewma import PeakEwma
from .power_of_two_choices import PowerOfTwoChoices
from .priority_levels import PriorityLevels, ZonePreference, level_loads
from .random_choice import Random
from .rendezvous import Rendezvous
from .ring_hash import RingHash
from .round_robin import RoundRobin
from .slow_start import SlowStart
from .smooth_weighted_round_robin import SmoothWeightedRoundRobin
from .subset import Subset
from .weighted_random import WeightedRandom

__all__ = (
    "Balancer",
    "BalancerObserver",
    "BoundedLoad",
    "ConsistentHash",
    "Explanation",
    "HealthFilter",
    "Key",
    "KeyHash",
    "Lease",
    "LeastActive",
    "Maglev",
    "NeutralOutcome",
    "ObservedBalancer",
    "OtelObserver",
    "OutlierConfig",
    "OutlierEjection",
    "PeakEwma",
    "PowerOfTwoChoices",
    "PriorityLevels",
    "Random",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SlowStart",
    "SmoothWeightedRoundRobin",
    "Subset",
    "WeightFilter",
    "WeightedRandom",
    "ZonePreference",
    "create",
    "keyed_hash",
    "level_loads",
    "names",
)
