"""Traffic lanes without touching call sites: context, ingress, egress, routes, messages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .context.lane_classes import LaneClass, LaneClasses
from .context.lane_context import current_lane, is_prod_lane, lane_headers, lane_scope
from .errors import (
    InvalidLaneError,
    LaneError,
    LaneUnavailableError,
    RouteTableError,
    RulesError,
)
from .ingress.asgi_middleware import LaneMiddleware
from .instrumentation import instrument, uninstrument
from .observer import LaneCounts, LaneObserver, OtelLaneObserver
from .resolution import Decision, Outcome, Resolution
from .routing.instance_filter import LaneInstanceFilter
from .routing.mesh_hosts import MeshHosts

if TYPE_CHECKING:
    from .colouring.conditions import GatewayRequest
    from .colouring.gateway import ColouringMiddleware
    from .colouring.live_rules import ConfigRules, RuleFile
    from .colouring.rules import ColouringRules, Explanation
    from .context.executors import (
        LaneItem,
        LaneThread,
        LaneThreadPoolExecutor,
        carry_lane,
        patch_executors,
        unpatch_executors,
    )
    from .context.generators import lane_generator
    from .ingress.wsgi_middleware import LaneWsgiMiddleware
    from .routing.fetch import FetchResponse
    from .routing.router import AsyncLaneRouter, LaneRouter

__all__ = (
    "AsyncLaneRouter",
    "ColouringMiddleware",
    "ColouringRules",
    "ConfigRules",
    "Decision",
    "Explanation",
    "FetchResponse",
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

# Loaded when first used: a program that only reads the lane needs no thread pool and no HTTP.
_LAZY = {
    "AsyncLaneRouter": ".routing.router",
    "ColouringMiddleware": ".colouring.gateway",
    "ColouringRules": ".colouring.rules",
    "ConfigRules": ".colouring.live_rules",
    "Explanation": ".colouring.rules",
    "FetchResponse": ".routing.fetch",
    "GatewayRequest": ".colouring.conditions",
    "LaneItem": ".context.executors",
    "LaneRouter": ".routing.router",
    "LaneThread": ".context.executors",
    "LaneThreadPoolExecutor": ".context.executors",
    "LaneWsgiMiddleware": ".ingress.wsgi_middleware",
    "RuleFile": ".colouring.live_rules",
    "carry_lane": ".context.executors",
    "lane_generator": ".context.generators",
    "patch_executors": ".context.executors",
    "unpatch_executors": ".context.executors",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
