"""Errors of lane routing.

LaneError
├── InvalidLaneError        not a name a lane can have, or a lane of no class
├── LaneUnavailableError    strict mode, and nobody of the lane can answer
├── RouteTableError         what the registry or a file says is no route table
└── RulesError              a colouring rule is wrong
"""

from __future__ import annotations

from microservice_core import InvalidValueError, MicroserviceError

__all__ = (
    "InvalidLaneError",
    "LaneError",
    "LaneUnavailableError",
    "RouteTableError",
    "RulesError",
)

_LABEL_RULE = "a DNS label: a-z, 0-9 and -, a letter first, at most 63"


class LaneError(MicroserviceError):
    """Root of what lane routing raises on purpose."""


class InvalidLaneError(LaneError, InvalidValueError):
    """The name breaks the rule for lanes; nothing was changed."""

    def __init__(self, value: object, rule: str = _LABEL_RULE) -> None:
        InvalidValueError.__init__(self, "lane", value, rule)

    def __reduce__(self) -> tuple[type[InvalidLaneError], tuple[object, str]]:  # type: ignore[override]
        return type(self), (self.value, self.rule)


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


class RouteTableError(LaneError, ValueError):
    """What was given is no route table; the last good one stays in force."""


class RulesError(LaneError, ValueError):
    """A colouring rule breaks a rule; the last good ones stay in force."""
