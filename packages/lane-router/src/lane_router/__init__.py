"""Traffic lanes without touching call sites: context, ingress, egress, routes, messages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .context import current_lane, is_prod_lane, lane_headers, lane_scope
from .errors import (
    InvalidLaneError,
    LaneError,
    LaneUnavailableError,
    RouteTableError,
    RulesError,
)
from .instance_filter import LaneInstanceFilter
from .instrumentation import instrument, uninstrument
from .lane_classes import LaneClass, LaneClasses
from .mesh import MeshHosts
from .middleware import LaneMiddleware
from .observer import LaneCounts, LaneObserver, OtelLaneObserver
from .resolution import Decision, Outcome, Resolution

if TYPE_CHECKING:
    from .conditions import GatewayRequest
    from .executors import (
        LaneItem,
        LaneThread,
        LaneThreadPoolExecutor,
        carry_lane,
        patch_executors,
        unpatch_executors,
    )
    from .fetching import Fetched
    from .gateway import ColouringMiddleware
    from .generators import lane_generator
    from .live_rules import ConfigRules, RuleFile
    from .router import AsyncLaneRouter, LaneRouter
    from .rules import ColouringRules, Explanation
    from .wsgi import LaneWsgiMiddleware

__all__ = (
    "AsyncLaneRouter",
    "ColouringMiddleware",
    "ColouringRules",
    "ConfigRules",
    "Decision",
    "Explanation",
    "Fetched",
    "GatewayRequest",
    "InvalidLaneError",
    "LaneClass",
    "LaneClasses",
    "LaneCounts",
    "LaneError",
    "LaneInstanceFilter",
    "LaneItem",
    "LaneMiddleware",
    "LaneObserver",
    "LaneRouter",
    "LaneThread",
    "LaneThreadPoolExecutor",
    "LaneUnavailableError",
    "LaneWsgiMiddleware",
    "MeshHosts",
    "OtelLaneObserver",
    "Outcome",
    "Resolution",
    "RouteTableError",
    "RuleFile",
    "RulesError",
    "carry_lane",
    "current_lane",
    "instrument",
    "is_prod_lane",
    "lane_generator",
    "lane_headers",
    "lane_scope",
    "patch_executors",
    "uninstrument",
    "unpatch_executors",
)

# Loaded when first used: who only reads the lane pays for no thread pool and no HTTP.
_LAZY = {
    "AsyncLaneRouter": ".router",
    "ColouringMiddleware": ".gateway",
    "ColouringRules": ".rules",
    "ConfigRules": ".live_rules",
    "Explanation": ".rules",
    "Fetched": ".fetching",
    "GatewayRequest": ".conditions",
    "LaneItem": ".executors",
    "LaneRouter": ".router",
    "LaneThread": ".executors",
    "LaneThreadPoolExecutor": ".executors",
    "LaneWsgiMiddleware": ".wsgi",
    "RuleFile": ".live_rules",
    "carry_lane": ".executors",
    "lane_generator": ".generators",
    "patch_executors": ".executors",
    "unpatch_executors": ".executors",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
