"""The last calls, for a status page; bounded, and without bodies, queries or headers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from microservice_client.errors import Attempt
from microservice_client.telemetry.attributes import shorten_path

__all__ = ("CallRecord", "RecentCalls")

_Raw = tuple[str, str, httpx.URL, int | str, list[Attempt], float, float, object]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call that has ended.

    Attributes:
        service: the service that was called.
        method: of HTTP.
        path: of the URL, without the query, cut at 200 characters.
        outcome: a status such as `200`, an error's name, or `cancelled`.
        attempts: the attempts that were made, in order.
        duration_seconds: until the response's headers, or until its body's end if it was read.
        ended_at: on the client's monotonic clock.
        labels: text by name, which an interceptor has stored in the request's extension
            `call_labels`, such as `{"lane": "dev"}`.
    """

    service: str
    method: str
    path: str
    outcome: str
    attempts: tuple[Attempt, ...]
    duration_seconds: float
    ended_at: float
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


class RecentCalls:
    """The last calls.

    Args:
        keep: number of calls; 0 keeps none.

    Attributes:
        add: adds a call, and drops the oldest one when there are too many.
    """

    __slots__ = ("_raw", "add")

    def __init__(self, keep: int) -> None:
        # Every call is added, but few are looked at: so raw values are kept, `list_latest` builds
        # the records, and `add` is the deque's own method.
        self._raw: deque[_Raw] = deque(maxlen=keep)
        self.add: Callable[[_Raw], None] = self._raw.append

    def list_latest(self, service: str | None = None) -> Sequence[CallRecord]:
        """Return the calls, newest first; only those of one service if it is named."""
        newest_first = list(reversed(self._raw))
        return [_build_record(raw) for raw in newest_first if service is None or raw[0] == service]


def _build_record(raw: _Raw) -> CallRecord:
    service, method, url, outcome, attempts, seconds, ended_at, labels = raw
    return CallRecord(
        service,
        method,
        shorten_path(url.path),
        str(outcome),
        tuple(attempts),
        seconds,
        ended_at,
        dict(labels) if isinstance(labels, Mapping) else {},
    )
