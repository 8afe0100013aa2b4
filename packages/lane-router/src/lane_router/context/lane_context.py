"""The lane of what runs now: set at the ingress, read at every egress, carried by contextvars."""

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
    "UNSAID",
    "LaneScope",
    "current_lane",
    "is_lane",
    "is_prod_lane",
    "lane_headers",
    "lane_scope",
)

# "" = nobody said anything, which is not the same as "in no lane": None.
UNSAID = ""
CURRENT: ContextVar[str | None] = ContextVar("lane", default=UNSAID)


def current_lane() -> str | None:
    """The lane of the present task or thread; None = in none.

    Outside of every scope it is the lane this process was started in: the variable `LANE`.
    """
    lane = CURRENT.get()
    return process_lane() if lane == UNSAID else lane


def is_prod_lane() -> bool:
    """Whether side effects that must happen once belong here: cron, leader election, webhooks.

    True when neither this process nor what runs now is in a lane other than `prod`. A process whose
    variable `LANE` is garbage is not in prod.
    """
    return process_is_prod() and CURRENT.get() in {UNSAID, None, PROD}


class LaneScope(ContextDecorator):
    """What `lane_scope` returns; one object for one block at a time."""

    __slots__ = ("_lane", "_token")

    def __init__(self, lane: str | None) -> None:
        self._lane = lane
        self._token: Token[str | None] | None = None

    def _recreate_cm(self) -> LaneScope:
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
            give_back(token)


def lane_scope(lane: str | None) -> LaneScope:
    """Run the block (or the decorated function) in this lane; None = in no lane.

    Raises:
        InvalidLaneError: no lane can have this name.
    """
    if lane is not None and not is_lane(lane):
        raise InvalidLaneError(lane)
    return LaneScope(lane)


def enter(lane: str | None) -> Token[str | None]:
    """Set a lane that was checked; hand the token to `give_back`."""
    return CURRENT.set(lane)


def give_back(token: Token[str | None]) -> None:
    """Set what was there before; a block that ends in another context has nothing to undo there.

    That happens to generators that are finalised by somebody else's task.
    """
    try:
        CURRENT.reset(token)
    except ValueError:
        return


def said() -> str | None:
    """The raw state, to be set again somewhere else: "" when nobody said anything."""
    return CURRENT.get()


def lane_headers(*, header: str = HEADER) -> dict[str, str]:
    """What to add to a request to a service of the mesh, so that the next hop knows the lane.

    Empty outside of any lane and in `prod`. Never add it to a request to a foreign host.
    """
    lane = current_lane()
    return {} if lane is None or lane == PROD else {header: lane}
