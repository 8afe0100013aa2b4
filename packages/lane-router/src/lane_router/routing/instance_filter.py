"""Lanes on any registry: instances that carry their lane in the metadata entry `lane`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_context import current_lane
from lane_router.context.lane_name import HEADER, PROD, is_lane
from lane_router.errors import InvalidLaneError, LaneUnavailableError
from lane_router.propagation.carriers import check_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lane_router.observer import LaneObserver
    from lane_router.resolution import Outcome
    from microservice_core import RequestContext, ServiceInstance

__all__ = ("LaneInstanceFilter",)


class LaneInstanceFilter:
    """An `InstanceFilter`: the lane's instances, or the base if none of them can answer.

    The base is the instances without a lane or of the lane `prod`; a call without a lane goes
    nowhere else. A lane header that the caller set on the request wins over the current lane.

    Raises:
        InvalidValueError: an invalid header name or mode.
    """

    __slots__ = ("_classes", "_header", "_mode", "_observer")

    def __init__(
        self,
        *,
        mode: Mode = "permissive",
        header: str = HEADER,
        classes: LaneClasses = ANY_LANE,
        observer: LaneObserver | None = None,
    ) -> None:
        self._mode = check_mode(mode)
        self._header = check_header(header)
        self._classes = classes
        self._observer = observer

    def __call__(
        self, instances: Sequence[ServiceInstance], context: RequestContext
    ) -> Sequence[ServiceInstance]:
        """The instances of the lane, or those of the base.

        Raises:
            LaneUnavailableError: mode `strict`, and no instance of the lane can answer.
            InvalidLaneError: a lane of no allowed class.
        """
        lane = self._read_lane(context)
        if lane is None or lane == PROD:
            self._count(context, lane, "base")
            return _select_base(instances)
        mode = self._classes.mode_of(lane, self._mode)
        if mode is None:
            raise InvalidLaneError(lane, "a lane of one of the classes")
        members = [instance for instance in instances if instance.lane == lane]
        if any(map(_is_available, members)):
            self._count(context, lane, "lane")
            return members
        self._count(context, lane, "strict_miss" if mode == "strict" else "base_fallback")
        if mode == "strict":
            raise LaneUnavailableError(context.service_name, lane)
        return _select_base(instances)

    def _count(self, context: RequestContext, lane: str | None, outcome: Outcome) -> None:
        if self._observer is not None:
            self._observer.on_resolution(context.service_name, lane, outcome)

    def _read_lane(self, context: RequestContext) -> str | None:
        explicit = context.headers.get(self._header)
        return explicit if explicit is not None and is_lane(explicit) else current_lane()


def _select_base(instances: Sequence[ServiceInstance]) -> Sequence[ServiceInstance]:
    base = [instance for instance in instances if instance.lane in {"", PROD}]
    # The sequence itself if it is all base: the client recognises an unchanged set by identity.
    return instances if len(base) == len(instances) else base


def _is_available(instance: ServiceInstance) -> bool:
    return instance.healthy and instance.enabled and instance.weight > 0
