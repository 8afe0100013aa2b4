"""What lane-router adds to the service client when the extra `lanes` is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from microservice_core import InstanceFilter, MissingDependencyError

if TYPE_CHECKING:
    import httpx

    from microservice_client import RequestInterceptor

__all__ = ("lane_parts",)


def lane_parts(
    mode: Literal["permissive", "strict"] | None, *, label_calls: bool = False
) -> tuple[list[InstanceFilter], list[RequestInterceptor]]:
    """The instance filter and the interceptor that hands the lane on; nothing without a mode.

    Args:
        label_calls: let the client's recent calls know their lane, for a status page.

    Raises:
        MissingDependencyError: lane-router is not installed.
    """
    if mode is None:
        return [], []
    try:
        import lane_router
    except ImportError as error:
        raise MissingDependencyError("lanes", "microservice-kit[lanes]") from error

    def hand_on(request: httpx.Request) -> None:
        for name, value in lane_router.lane_headers().items():
            request.headers.setdefault(name, value)

    def label(request: httpx.Request) -> None:
        request.extensions["call_labels"] = {"lane": lane_router.current_lane() or ""}

    interceptors: list[RequestInterceptor] = [label, hand_on] if label_calls else [hand_on]
    return [lane_router.LaneInstanceFilter(mode=mode)], interceptors
