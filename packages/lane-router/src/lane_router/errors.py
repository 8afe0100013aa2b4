"""Errors of lane routing.

LaneError
├── InvalidLaneError        not a name a lane can have
└── LaneUnavailableError    strict mode, and nobody of the lane can answer
"""

from __future__ import annotations

from microservice_core import InvalidValueError, MicroserviceError

__all__ = ("InvalidLaneError", "LaneError", "LaneUnavailableError")


class LaneError(MicroserviceError):
    """Root of what lane routing raises on purpose."""


class InvalidLaneError(LaneError, InvalidValueError):
    """The name breaks the rule for lanes; nothing was changed."""

    def __init__(self, value: object) -> None:
        InvalidValueError.__init__(
            self, "lane", value, "a DNS label: a-z, 0-9 and -, a letter first, at most 63"
        )

    def __reduce__(self) -> tuple[type[InvalidLaneError], tuple[object]]:  # type: ignore[override]
        return type(self), (self.value,)


class LaneUnavailableError(LaneError):
    """The lane has nobody who can answer, and its mode forbids the base; nothing was sent.

    Attributes:
        service_name: the service that was asked for.
        lane: the lane.
    """

    def __init__(self, service_name: str, lane: str) -> None:
        super().__init__(
            f"service {service_name!r} has nobody in lane {lane!r} and the mode is strict; "
            "start one in the lane, or allow the base with mode='permissive'"
        )
        self.service_name = service_name
        self.lane = lane

    def __reduce__(self) -> tuple[type[LaneUnavailableError], tuple[str, str]]:
        return type(self), (self.service_name, self.lane)
