"""The lane of the running code: set at the ingress, read at every egress, carried by contextvars."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

from lane_router.errors import InvalidLaneError

from .lane_name import HEADER, PROD, is_lane
from .process_lane import process_is_prod, process_lane

if TYPE_CHECKING:
    from types import TracebackType

__all__ = (
    "CURRENT",
    "HEADER",
    "PROD",
    "UNSET",
    "LaneScope",
    "current_lane",
    "get_raw_lane",
    "is_lane",
    "is_prod_lane",
    "lane_headers",
    "lane_scope",
    "reset_lane",
    "set_lane",
)

# "" = no scope was entered, so the lane of the process applies; None = explicitly in no lane.
UNSET = ""
CURRENT: ContextVar[str | None] = ContextVar("lane", default=UNSET)


def current_lane() -> str | None:
    """The lane of the current task or thread; None = in no lane.

    Outside of every scope it is the lane the process was started in: the variable `LANE`.
    """
    lane = CURRENT.get()
    return process_lane() if lane == UNSET else lane


def is_prod_lane() -> bool:
    """Whether side effects that must happen once belong here: cron, leader election, webhooks.

    True when neither this process nor the running code is in a lane other than `prod`. A process
    whose variable `LANE` is invalid does not count as prod.
    """
    return process_is_prod() and CURRENT.get() in {UNSET, None, PROD}


class LaneScope(ContextDecorator):
    """The context manager and decorator that `lane_scope` returns; one object per open block."""

    __slots__ = ("_lane", "_token")

    def __init__(self, lane: str | None) -> None:
        self._lane = lane
        self._token: Token[str | None] | None = None

    def _recreate_cm(self) -> LaneScope:
        # ContextDecorator asks for a fresh scope per call: one object holds one token only.
        return LaneScope(self._lane)

    def __enter__(self) -> None:
        self._token = CURRENT.set(self._lane)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            reset_lane(token)


def lane_scope(lane: str | None) -> LaneScope:
    """Run a block, or each call of a decorated function, in this lane; None = in no lane.

    Raises:
        InvalidLaneError: this is not a valid lane name.
    """
    if lane is not None and not is_lane(lane):
        raise InvalidLaneError(lane)
    return LaneScope(lane)


def set_lane(lane: str | None) -> Token[str | None]:
    """Set a lane that is known to be valid; pass the token to `reset_lane` afterwards."""
    return CURRENT.set(lane)


def reset_lane(token: Token[str | None]) -> None:
    """Restore the lane from before `set_lane`."""
    try:
        CURRENT.reset(token)
    except ValueError:
        # The token belongs to another context: a generator was finalised by another task than the
        # one that advanced it. There is nothing to restore in this context.
        return


def get_raw_lane() -> str | None:
    """The context variable itself, to be set again elsewhere: "" outside of every scope."""
    return CURRENT.get()


def lane_headers(*, header: str = HEADER) -> dict[str, str]:
    """The headers that pass the current lane on with a request to a service of the mesh.

    Empty outside of any lane and in `prod`. Never add them to a request to a foreign host.
    """
    lane = current_lane()
    return {} if lane is None or lane == PROD else {header: lane}
