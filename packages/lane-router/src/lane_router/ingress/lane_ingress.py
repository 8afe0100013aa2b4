"""The common part of the ingresses: their options, and what happens to a lane not accepted."""

from __future__ import annotations

from typing import Generic, TypeVar

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_name import HEADER
from lane_router.observer import LaneObserver
from lane_router.propagation.carriers import BAGGAGE_KEY, Carriers, Preference, Reading

__all__ = ("REFUSAL", "DropPolicy", "LaneIngress")

AppT = TypeVar("AppT")

# Never repeats what the client sent.
REFUSAL = b"the lane header must hold exactly one lane name; send a valid one or none\n"


class DropPolicy:
    """What happens to a lane that is not accepted: it is reported, and refused in mode `strict`.

    Raises:
        InvalidValueError: the mode is neither `permissive` nor `strict`.
    """

    __slots__ = ("_observer", "_strict")

    def __init__(self, mode: Mode, observer: LaneObserver | None) -> None:
        self._strict = check_mode(mode) == "strict"
        self._observer = observer

    def refuses(self, reading: Reading) -> bool:
        """Whether the request must be refused; notifies the observer of a lane not accepted."""
        if reading.problem is None:
            return False
        if self._observer is not None:
            self._observer.on_drop(reading.problem)
        return self._strict


class LaneIngress(Generic[AppT]):
    """An application wrapped so that each request runs in the lane its headers name.

    The lane is read from its header and from W3C baggage. A lane that is invalid, sent twice, of no
    allowed class, or different in the two counts as no lane in mode `permissive`, and the request
    is refused in mode `strict`.

    Args:
        app: the application to wrap.
        header: the lane's own header.
        mode: `permissive` or `strict`.
        baggage_key: the member of `baggage`; None = baggage is not read.
        prefer: the carrier that wins when the two disagree, in either mode; None = neither.
        classes: which lanes are allowed.
        observer: notified of each lane that is not accepted.

    Raises:
        InvalidValueError: an invalid header name, key, preference or mode.
    """

    def __init__(
        self,
        app: AppT,
        *,
        header: str = HEADER,
        mode: Mode = "permissive",
        baggage_key: str | None = BAGGAGE_KEY,
        prefer: Preference | None = None,
        classes: LaneClasses = ANY_LANE,
        observer: LaneObserver | None = None,
    ) -> None:
        self._app = app
        self._carriers = Carriers(
            header=header, baggage_key=baggage_key, prefer=prefer, classes=classes
        )
        self._drop_policy = DropPolicy(mode, observer)
        self._prepare()

    def _prepare(self) -> None:
        """End of the constructor: set up what only this kind of application needs."""
