"""Classes of lanes: which lanes there may be, and how strict each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, cast

from microservice_core import InvalidValueError

__all__ = ("ANY_LANE", "LaneClass", "LaneClasses", "Mode", "check_mode")

Mode = Literal["permissive", "strict"]


def check_mode(mode: str) -> Mode:
    """A mode, or an error that names it."""
    if mode not in {"permissive", "strict"}:
        raise InvalidValueError("mode", mode, "'permissive' or 'strict'")
    return cast(Mode, mode)


@dataclass(frozen=True, slots=True)
class LaneClass:
    """The lanes that match a shell pattern, such as `ppe-*`, and their mode.

    Attributes:
        pattern: `*` and `?` as in file names; the first class that matches a lane counts.
        mode: `permissive` falls back to the base where the lane has nobody, `strict` refuses.
    """

    pattern: str
    mode: Mode = "permissive"

    def __post_init__(self) -> None:
        if not self.pattern or not set(self.pattern) <= set(
            "abcdefghijklmnopqrstuvwxyz0123456789-*?[]!"
        ):
            raise InvalidValueError(
                "pattern", self.pattern, "a pattern of lane names such as 'ppe-*'"
            )
        check_mode(self.mode)


class LaneClasses:
    """The classes in order, and what holds for a lane of none of them.

    Args:
        otherwise: a mode; or `refuse`, which closes the door: a lane of no class is then treated
            as garbage at the ingress and as an error wherever it is resolved. None leaves it to
            the mode of whoever asks.

    Raises:
        InvalidValueError: no such mode.
    """

    __slots__ = ("_classes", "_otherwise")

    def __init__(
        self,
        *classes: LaneClass,
        otherwise: Mode | Literal["refuse"] | None = None,
    ) -> None:
        if otherwise not in {"permissive", "strict", "refuse", None}:
            rule = "'permissive', 'strict', 'refuse' or None"
            raise InvalidValueError("otherwise", otherwise, rule)
        self._classes = classes
        self._otherwise = otherwise

    def allows(self, lane: str) -> bool:
        """Whether there may be such a lane."""
        return self._otherwise != "refuse" or self._find(lane) is not None

    def mode_of(self, lane: str, default: Mode) -> Mode | None:
        """The lane's mode; `default` where nothing is said, None where it is refused."""
        found = self._find(lane)
        if found is not None:
            return found.mode
        if self._otherwise == "refuse":
            return None
        return self._otherwise or default

    def _find(self, lane: str) -> LaneClass | None:
        return next((one for one in self._classes if fnmatchcase(lane, one.pattern)), None)


ANY_LANE = LaneClasses()
