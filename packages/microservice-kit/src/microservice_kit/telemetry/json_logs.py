"""Log lines as JSON, with the trace and the lane they belong to."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

__all__ = ("JsonFormatter", "json_logs")

_MAX_FIELD = 8192
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",  # uvicorn's: the message with escape sequences
}
# Servers give these handlers of their own, which write plain lines.
_SERVER_LOGGERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "hypercorn.error",
    "hypercorn.access",
    "gunicorn.error",
    "gunicorn.access",
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`.

    Then `trace_id` and `span_id` (hex, as in `traceparent`), `lane` and `exception`, where there is
    one, and the fields of `extra=`. A text longer than 8 KiB is cut.

    Args:
        fields: added to every line, such as the service's name.
    """

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_FIELD],
            **self._fields,
            **_trace_fields(),
            **_lane_fields(),
        }
        if record.exc_info:
            # The end of a traceback says what happened.
            line["exception"] = self.formatException(record.exc_info)[-_MAX_FIELD:]
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
        return json.dumps({**extra, **line}, default=_shorten, ensure_ascii=False)


def json_logs(
    level: int | str = logging.INFO, *, stream: TextIO | None = None, **fields: str
) -> logging.Handler:
    """Let the root logger write JSON lines to standard error, or to `stream`; for applications.

    The lines of uvicorn, hypercorn and gunicorn become JSON as well, when the server has set up its
    logging before: so it is where the server imports the application by name. A program that starts
    uvicorn itself afterwards says `uvicorn.run(app, log_config=None)`.

    Returns:
        the handler, for `logging.getLogger().removeHandler`.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(**fields))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _SERVER_LOGGERS:
        server_logger = logging.getLogger(name)
        server_logger.handlers.clear()
        server_logger.propagate = True
    return handler


# Without the module there is no span, and no lane: a log line imports neither.


def _trace_fields() -> dict[str, str]:
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return {}
    span = opentelemetry.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def _lane_fields() -> dict[str, str]:
    lane_router = sys.modules.get("lane_router")
    lane = lane_router.current_lane() if lane_router is not None else None
    return {"lane": lane} if lane else {}


def _shorten(value: object) -> str:
    return str(value)[:_MAX_FIELD]
