"""Lanes on any registry: instances that carry their lane in metadata `lane`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .context import HEADER, PROD, current_lane, is_lane
from .errors import LaneUnavailableError
from .middleware import Mode, check_header, check_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microservice_core import RequestContext, ServiceInstance

__all__ = ("LaneInstanceFilter",)


class LaneInstanceFilter:
    """An `InstanceFilter`: the lane's instances, or the base when the lane has none that can answer.

    The base are the instances without a lane, or of the lane `prod`; traffic without a lane never
    goes anywhere else. A lane header that the caller put on the request goes before the context.

    Raises:
        InvalidValueError: no such header name or mode.
    """

    __slots__ = ("_header", "_strict")

    def __init__(self, *, mode: Mode = "permissive", header: str = HEADER) -> None:
        self._strict = check_mode(mode) == "strict"
        self._header = check_header(header)

    def __call__(
        self, instances: Sequence[ServiceInstance], context: RequestContext
    ) -> Sequence[ServiceInstance]:
        """Those of the lane; else those of the base.

        Raises:
            LaneUnavailableError: mode `strict`, and nobody of the lane can answer.
        """
        lane = self._lane(context)
        if lane is not None and lane != PROD:
            members = [instance for instance in instances if instance.lane == lane]
            if any(map(_can_answer, members)):
                return members
            if self._strict:
                raise LaneUnavailableError(context.service_name, lane)
        base = [instance for instance in instances if instance.lane in {"", PROD}]
        return instances if len(base) == len(instances) else base

    def _lane(self, context: RequestContext) -> str | None:
        explicit = context.headers.get(self._header)
        return explicit if explicit is not None and is_lane(explicit) else current_lane()


def _can_answer(instance: ServiceInstance) -> bool:
    return instance.healthy and instance.enabled and instance.weight > 0
