"""Errors of lane routing.

LaneError
├── InvalidLaneError        not a valid lane name, or a lane of no allowed class
├── LaneUnavailableError    mode strict, and the lane has no ready instance
├── RouteTableError         the registry's response or a file is not a route table
└── RulesError              a colouring rule is invalid
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
    """Root of the errors that lane routing raises on purpose."""


class InvalidLaneError(LaneError, InvalidValueError):
    """The name breaks the rule for lanes, or its class is not allowed; nothing was changed."""

    def __init__(self, value: object, rule: str = _LABEL_RULE) -> None:
        InvalidValueError.__init__(self, "lane", value, rule)

    # Both base classes take other arguments than this one, so unpickling has to be spelt out.
    def __reduce__(self) -> tuple[type[InvalidLaneError], tuple[object, str]]:  # type: ignore[override]  # a narrower tuple
        return type(self), (self.value, self.rule)


class LaneUnavailableError(LaneError):
    """No instance of the lane is ready, and mode `strict` forbids the base; nothing was sent.

    Attributes:
        service_name: the service that was called.
        lane: the lane.
    """

    def __init__(self, service_name: str, lane: str) -> None:
        super().__init__(
            f"service {service_name!r} has no ready instance in lane {lane!r} and the mode is "
            "strict; start one in the lane, or allow the base with mode='permissive'"
        )
        self.service_name = service_name
        self.lane = lane

    def __reduce__(self) -> tuple[type[LaneUnavailableError], tuple[str, str]]:
        return type(self), (self.service_name, self.lane)


class RouteTableError(LaneError, ValueError):
    """A document is not a route table; the last valid table stays in use."""


class RulesError(LaneError, ValueError):
    """A colouring rule is invalid; the last valid rules stay in use."""
