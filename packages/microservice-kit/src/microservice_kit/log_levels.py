"""Levels of loggers from the configuration: the key `logging.level`, live."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import BaseModel

from .config.data import MISSING, iter_leaves, look_up
from .config.service import ConfigService

__all__ = ("LogLevels",)

logger = logging.getLogger(__name__)

_SECTION = "logging"
_KEY = "logging.level"
_MAX_LOGGERS = 500
_OFF = logging.CRITICAL + 10
# Spring's names as well, and False: what YAML makes of `OFF`.
_LEVELS: Mapping[str, int] = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
    "OFF": _OFF,
    "FALSE": _OFF,
}


class LogLevels:
    """Gives loggers the level that the configuration has for them, and back the one they had.

    `logging: {level: {root: INFO, shop.orders: DEBUG}}`, also nested or as dotted keys. Invalid
    levels change nothing: they are logged, and the configuration's `problem` until corrected.
    """

    def __init__(self, config: ConfigService[BaseModel]) -> None:
        self._config = config
        self._section: Mapping[str, object] = {}
        self._levels_before: dict[str, int] = {}

    def refresh(self) -> None:
        """Apply the newest configuration."""
        section = _read_section(self._config.version.data)
        if section == self._section:
            return
        self._section = section
        problem, levels = _parse(section)
        self._config.report_section(_SECTION, problem or None)
        if problem:
            logger.error("configuration key %r: %s; keeping the previous levels", _KEY, problem)
        else:
            self._apply(levels)

    def restore(self) -> None:
        """Give every logger the level that it had before."""
        self._apply({})

    def _apply(self, levels: Mapping[str, int]) -> None:
        for name in [name for name in self._levels_before if name not in levels]:
            _find_logger(name).setLevel(self._levels_before.pop(name))
        for name, level in levels.items():
            target = _find_logger(name)
            self._levels_before.setdefault(name, target.level)
            target.setLevel(level)


def _read_section(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return the levels by logger; nested keys are joined by dots."""
    section = look_up(data, _KEY)
    levels = dict(iter_leaves(section)) if isinstance(section, Mapping) else {}
    if section is not MISSING and not isinstance(section, Mapping):
        levels[""] = section
    prefix = f"{_KEY}."
    levels |= {key.removeprefix(prefix): data[key] for key in data if key.startswith(prefix)}
    return levels


def _parse(section: Mapping[str, object]) -> tuple[str, dict[str, int]]:
    """Return what is wrong, and the level of each logger."""
    if len(section) > _MAX_LOGGERS:
        return f"there are more than {_MAX_LOGGERS} loggers", {}
    levels = {}
    for name, value in section.items():
        level = _LEVELS.get(str(value).upper())
        if not name or level is None:
            return f"{name or 'it'} must be one of {', '.join(list(_LEVELS)[:-1])}", {}
        levels[name] = level
    return "", levels


def _find_logger(name: str) -> logging.Logger:
    return logging.getLogger(None if name in {"root", "ROOT"} else name)
