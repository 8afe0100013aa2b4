"""The last calls, for a status page; bounded, and without bodies, queries or headers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from microservice_client.errors import Attempt

__all__ = ("CallRecord", "RecentCalls")

_LONGEST_PATH = 200

_Raw = tuple[str, str, httpx.URL, int | str, list[Attempt], float, float, object]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call that came to an end.

    Attributes:
        path: of the URL, without the query, cut at 200 characters.
        outcome: a status such as `200`, an error's name, or `cancelled`.
        duration_seconds: until the response's headers, or its body's end where that was read.
        ended_at: on the client's monotonic clock.
        labels: what an interceptor left in the request's extension `call_labels`, a mapping of
            text to text, such as `{"lane": "dev"}`.
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
    """The last `keep` calls; 0 keeps none."""

    def __init__(self, keep: int) -> None:
        # Raw, and made readable when somebody looks: every call comes by here.
        self._raw: deque[_Raw] = deque(maxlen=keep)

    def add(self, *raw: *_Raw) -> None:
        """Keep a call, in the place of the oldest."""
        self._raw.append(raw)

    def latest(self, service: str | None = None) -> Sequence[CallRecord]:
        """Newest first; of one service only, if it is named."""
        newest_first = list(reversed(self._raw))
        return [_record(raw) for raw in newest_first if service is None or raw[0] == service]


def _record(raw: _Raw) -> CallRecord:
    service, method, url, outcome, attempts, seconds, ended_at, labels = raw
    path, tried = shown_path(url.path), tuple(attempts)
    told = dict(labels) if isinstance(labels, Mapping) else {}
    return CallRecord(service, method, path, str(outcome), tried, seconds, ended_at, told)


def shown_path(path: str) -> str:
    """What of a path is kept."""
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."
