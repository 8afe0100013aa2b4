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
_LARGEST = 1024 * 1024  # what the reader of documents takes by default


class _LiveRules:
    """The last valid rules, and the problem of the newest ones if those are invalid."""

    def __init__(self) -> None:
        self.problem = ""
        self._rules = ColouringRules()

    @property
    def rules(self) -> ColouringRules:
        """The last valid rules."""
        return self._rules

    def lane_for(self, request: GatewayRequest) -> str | None:
        """The lane of the first rule that applies; None when none does."""
        return self.rules.lane_for(request)

    def explain(self, request: GatewayRequest) -> Explanation:
        """`lane_for`, with the evaluation of each rule."""
        return self.rules.explain(request)

    def _replace_rules(self, read: Callable[[], ColouringRules], source: str) -> None:
        try:
            self._rules = read()
        except (RulesError, MissingDependencyError, OSError) as error:
            self.problem = str(error)
            logger.warning("%s: %s; keeping the last valid rules", source, error)
        else:
            self.problem = ""
            logger.info("%s: %d rules in use", source, len(self._rules))


class RuleFile(_LiveRules):
    """Rules in a JSON, TOML or YAML file, read again when it has changed.

    Args:
        path: the file; its suffix decides the format.
        check_seconds: between two looks at the file's time stamp; it is looked at during a lookup,
            there is no thread.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for rules that expire or warm up.

    Attributes:
        problem: why the present file is invalid, while the last valid rules are used; empty when it
            is valid.

    Raises:
        RulesError: the file is invalid or cannot be read at the start.
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
        self._last_signature = self._signature()
        self._next_check_at = clock() + check_seconds
        try:
            self._rules = self._read()
        except OSError as error:
            raise RulesError(f"rule file {str(path)!r} cannot be read: {error}") from error

    @property
    def rules(self) -> ColouringRules:
        """The last valid rules; reads the file if it has changed."""
        if self._clock() >= self._next_check_at:
            self._next_check_at = self._clock() + self._check_seconds
            signature = self._signature()
            if signature != self._last_signature:
                self._last_signature = signature
                self._replace_rules(self._read, f"rule file {str(self._path)!r}")
        return self._rules

    def _read(self) -> ColouringRules:
        content_type = _FORMATS.get(self._path.suffix, "json")
        with self._path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        return ColouringRules.read(content, content_type, wall_clock=self._wall_clock)

    def _signature(self) -> tuple[int, ...]:
        """What changes when the file does: its time, size and inode; empty without a file."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino


class ConfigRules(_LiveRules):
    """Rules in a document of the configuration center; `close` ends the watch.

    Attributes:
        problem: why the newest document is invalid, while the last valid rules are used; empty when
            it is valid. A deleted document means no rules.
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
        self._source = f"rules {data_id!r}"
        options = {"group_name": group_name} if group_name else {}
        self._unsubscribe: Unsubscribe = center.watch_config(
            data_id, self._apply_document, **options
        )

    def close(self) -> None:
        """End the watch; the last valid rules stay in use. Closing twice is fine."""
        self._unsubscribe()

    def _apply_document(self, result: ConfigResult | ConfigDeleted) -> None:
        if isinstance(result, ConfigDeleted):
            self._replace_rules(ColouringRules, self._source)
            return
        content_type = {"yml": "yaml"}.get(result.content_type, result.content_type)
        content_type = content_type if content_type in {"toml", "yaml"} else "json"
        self._replace_rules(
            lambda: ColouringRules.read(result.content, content_type, wall_clock=self._wall_clock),
            self._source,
        )
