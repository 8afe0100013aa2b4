"""Which consumer handles a message when base and lanes read the same topic or stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lane_router.context.lane_name import PROD, is_lane
from lane_router.context.process_lane import process_lane
from lane_router.errors import InvalidLaneError
from microservice_core import InvalidValueError

if TYPE_CHECKING:
    from lane_router.routing.base_router import BaseRouter

__all__ = ("ConsumerLane",)


class ConsumerLane:
    """One consumer's part of a topic that base and lanes share.

    A lane reads in a consumer group of its own and handles only messages of its lane. The base
    handles messages without a lane, and those of every lane without a ready instance, by the
    router's table.

    Args:
        group: the base's consumer group.
        service: the service that base and lanes are copies of, as the route table names it.
        router: knows which lanes are ready; without one the base handles every message.
        lane: this consumer's; by default that of the process (the variable `LANE`).

    Attributes:
        lane: this consumer's lane; None = it belongs to the base.

    Raises:
        InvalidLaneError: not a valid lane name.
        InvalidValueError: an empty group or service.
    """

    def __init__(
        self,
        group: str,
        *,
        service: str,
        router: BaseRouter | None = None,
        lane: str | None = None,
    ) -> None:
        for name, value in (("group", group), ("service", service)):
            if not value:
                raise InvalidValueError(name, value, "a name")
        lane = lane or process_lane()
        if lane is not None and not is_lane(lane):
            raise InvalidLaneError(lane)
        self.lane = None if lane == PROD else lane
        self._group = group
        self._service = service
        self._router = router

    @property
    def group(self) -> str:
        """The consumer group to join: the base's own, or `GROUP.LANE`."""
        return self._group if self.lane is None else f"{self._group}.{self.lane}"

    def handles(self, lane: str | None) -> bool:
        """Whether this consumer handles a message of this lane; None = of no lane."""
        if lane == PROD:
            lane = None
        if self.lane is not None:
            return lane == self.lane
        return lane is None or self._router is None or lane not in self._router.lanes(self._service)
