"""The parts that lane-router adds to the service client; needs the extra `lanes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from microservice_core import InstanceFilter, MissingDependencyError

if TYPE_CHECKING:
    import httpx

    from microservice_client import RequestInterceptor

__all__ = ("LaneMode", "create_lane_parts")

LaneMode = Literal["permissive", "strict"]


def create_lane_parts(
    mode: LaneMode, *, label_calls: bool = False
) -> tuple[list[InstanceFilter], list[RequestInterceptor]]:
    """Create the instance filter, and the interceptors that send the lane.

    Args:
        label_calls: label the client's recent calls with their lane, for the status page.

    Raises:
        MissingDependencyError: lane-router is not installed.
    """
    try:
        import lane_router
    except ImportError as error:
        raise MissingDependencyError("lanes", "microservice-kit[lanes]") from error

    def add_lane_headers(request: httpx.Request) -> None:
        for name, value in lane_router.lane_headers().items():
            request.headers.setdefault(name, value)

    def label_call(request: httpx.Request) -> None:
        request.extensions["call_labels"] = {"lane": lane_router.current_lane() or ""}

    interceptors: list[RequestInterceptor] = [add_lane_headers]
    if label_calls:
        interceptors.insert(0, label_call)
    return [lane_router.LaneInstanceFilter(mode=mode)], interceptors
