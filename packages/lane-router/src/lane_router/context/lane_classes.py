"""Classes of lanes: which lanes are allowed, and how strict each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, cast

from microservice_core import InvalidValueError

__all__ = ("ANY_LANE", "LaneClass", "LaneClasses", "Mode", "check_mode")

Mode = Literal["permissive", "strict"]

_PATTERN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-*?[]!")


def check_mode(mode: str) -> Mode:
    """Return the mode unchanged if it is valid.

    Raises:
        InvalidValueError: the mode is neither `permissive` nor `strict`.
    """
    if mode not in {"permissive", "strict"}:
        raise InvalidValueError("mode", mode, "'permissive' or 'strict'")
    return cast(Mode, mode)


@dataclass(frozen=True, slots=True)
class LaneClass:
    """The lanes that match a shell pattern, such as `ppe-*`, and their mode.

    Attributes:
        pattern: `*` and `?` as in file names; a lane belongs to the first class that matches it.
        mode: `permissive` falls back to the base when the lane has no ready instance, `strict`
            raises.

    Raises:
        InvalidValueError: the pattern cannot match a lane name, or the mode is unknown.
    """

    pattern: str
    mode: Mode = "permissive"

    def __post_init__(self) -> None:
        if not self.pattern or not set(self.pattern) <= _PATTERN_CHARACTERS:
            raise InvalidValueError(
                "pattern", self.pattern, "a pattern of lane names such as 'ppe-*'"
            )
        check_mode(self.mode)


class LaneClasses:
    """Lane classes in order of precedence, and the rule for lanes that match none of them.

    Args:
        otherwise: the mode of lanes that match no class; or `refuse`, which allows only lanes of a
            class: any other lane counts as invalid at the ingress and as an error wherever it is
            resolved. None leaves the mode to the router or filter that uses these classes.

    Raises:
        InvalidValueError: `otherwise` is none of these.
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
        """Whether a request may be in this lane."""
        return self._otherwise != "refuse" or self._find(lane) is not None

    def mode_of(self, lane: str, default: Mode) -> Mode | None:
        """The lane's mode: `default` where no class sets one, None where the lane is refused."""
        lane_class = self._find(lane)
        if lane_class is not None:
            return lane_class.mode
        if self._otherwise == "refuse":
            return None
        return self._otherwise or default

    def _find(self, lane: str) -> LaneClass | None:
        return next((item for item in self._classes if fnmatchcase(lane, item.pattern)), None)


ANY_LANE = LaneClasses()
