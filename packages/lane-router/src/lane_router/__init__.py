"""Traffic lanes without touching call sites: context, ingress, egress, the lane's instances."""

from .context import current_lane, lane_headers, lane_scope
from .errors import InvalidLaneError, LaneError, LaneUnavailableError
from .instance_filter import LaneInstanceFilter
from .instrumentation import instrument, uninstrument
from .mesh import MeshHosts
from .middleware import LaneMiddleware

__all__ = (
    "InvalidLaneError",
    "LaneError",
    "LaneInstanceFilter",
    "LaneMiddleware",
    "LaneUnavailableError",
    "MeshHosts",
    "current_lane",
    "instrument",
    "lane_headers",
    "lane_scope",
    "uninstrument",
)
