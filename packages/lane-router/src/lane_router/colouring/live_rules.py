"""Rules that change while the gateway runs: from a file, or from the configuration center."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lane_router.errors import RulesError
from microservice_core import ConfigDeleted, MissingDependencyError

from .rules import ColouringRules

if TYPE_CHECKING:
    from microservice_core import ConfigCenter, ConfigResult, Unsubscribe

    from .conditions import GatewayRequest
    from .rules import Explanation

__all__ = ("ConfigRules", "RuleFile")

logger = logging.getLogger(__name__)

_FORMATS = {".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
_LARGEST = 4 * 1024 * 1024


class _Live:
    """What both have in common: the rules in force, and what is wrong with newer ones."""

    def __init__(self) -> None:
        self.problem = ""
        self._rules = ColouringRules()

    @property
    def rules(self) -> ColouringRules:
        """The rules in force."""
        return self._rules

    def lane_for(self, request: GatewayRequest) -> str | None:
        """The lane of the first rule that applies; None when none does."""
        return self.rules.lane_for(request)

    def explain(self, request: GatewayRequest) -> Explanation:
        """The same, told step by step."""
        return self.rules.explain(request)

    def _take(self, read: Callable[[], ColouringRules], what: str) -> None:
        try:
            self._rules = read()
        except (RulesError, MissingDependencyError, OSError, UnicodeDecodeError) as error:
            self.problem = str(error)
            logger.warning("%s: %s; the last good rules stay", what, error)
        else:
            self.problem = ""
            logger.info("%s: %d rules in force", what, len(self._rules))


class RuleFile(_Live):
    """A JSON, TOML or YAML file, looked at again every few seconds when it is asked.

    Attributes:
        problem: what is wrong with the file as it is now; the last good rules are in force.

    Raises:
        RulesError: the file is wrong or cannot be read at the start.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        check_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._path = Path(path)
        self._check_seconds = check_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._seen = self._signature()
        self._look_at = clock() + check_seconds
        try:
            self._rules = self._read()
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"rule file {str(path)!r} cannot be read: {error}") from error

    @property
    def rules(self) -> ColouringRules:
        """The rules in force; a file that changed is read."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + self._check_seconds
            signature = self._signature()
            if signature != self._seen:
                self._seen = signature
                self._take(self._read, f"rule file {str(self._path)!r}")
        return self._rules

    def _read(self) -> ColouringRules:
        kind = _FORMATS.get(self._path.suffix, "json")
        with self._path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise RulesError(f"the rules are larger than {_LARGEST} bytes; split them")
        return ColouringRules.read(content.decode("utf-8"), kind, wall_clock=self._wall_clock)

    def _signature(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino


class ConfigRules(_Live):
    """A document of the configuration center; `close` ends the watch.

    Attributes:
        problem: what is wrong with the newest document; the last good rules are in force. A
            document that was deleted means no rules.
    """

    def __init__(
        self,
        center: ConfigCenter,
        data_id: str,
        *,
        group_name: str = "",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._wall_clock = wall_clock
        self._what = f"rules {data_id!r}"
        options = {"group_name": group_name} if group_name else {}
        self._unsubscribe: Unsubscribe = center.watch_config(data_id, self._changed, **options)

    def close(self) -> None:
        """Watch no longer; the rules stay in force. Twice is fine."""
        self._unsubscribe()

    def _changed(self, result: ConfigResult | ConfigDeleted) -> None:
        if isinstance(result, ConfigDeleted):
            self._take(ColouringRules, self._what)
            return
        kind = {"yml": "yaml"}.get(result.content_type, result.content_type)
        kind = kind if kind in {"toml", "yaml"} else "json"
        self._take(
            lambda: ColouringRules.read(result.content, kind, wall_clock=self._wall_clock),
            self._what,
        )
