"""Metrics in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

__all__ = ("Metrics",)

_PREFIX = "lite_registry_"

_HELP = {
    "http_requests": "Requests handled, by path template and status.",
    "http_connections": "Connected clients.",
    "watchers": "Requests that wait for a change.",
    "routes": 'Ready endpoints of each lane; the base has lane="".',
    "routes_version": "Always 1; the label is the version of the served routes.",
    "sync_age_seconds": "Seconds since the source of routes was last seen.",
    "stale": "1 while the source of routes cannot be seen.",
    "relists": "Complete lists taken from the API server.",
    "list_failures": "Lists that failed, by HTTP status or `connection`.",
    "watch_restarts": "Watches that ended, by reason.",
    "shrink_guards": "Lists that shrank sharply and were confirmed by a second one.",
    "rejected_services": "Services that make no route, by reason.",
    "instances": "Leased instances.",
    "leases_lapsed": "Leases that were not renewed in time.",
    "self_preservation": "1 while lapsed leases are kept, because too many lapsed at once.",
    "snapshot_failures": "Snapshots that could not be written.",
    "store_failures": "Operations on the lease store that failed.",
    "store_unreadable": "Entries and messages of the lease store that could not be read.",
    "tasks_down": "Background tasks that failed and wait for their restart.",
}

Series = Iterable[tuple[dict[str, str], float]]


class Metrics:
    """Counters that are increased, and gauges that are read for each page."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter[tuple[tuple[str, str], ...]]] = {}
        self._gauges: dict[str, Callable[[], Series]] = {}

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Increase the counter; label values have to come from a bounded set."""
        self._counters.setdefault(name, Counter())[tuple(labels.items())] += by

    def add_gauge(self, name: str, read: Callable[[], Series]) -> None:
        """Add a gauge; `read` returns its series for each page."""
        self._gauges[name] = read

    def render(self) -> bytes:
        """The page at `/metrics`."""
        lines: list[str] = []
        for name in sorted(self._counters):
            series = ((dict(labels), n) for labels, n in sorted(self._counters[name].items()))
            lines += _render_family(f"{name}_total", "counter", _HELP[name], series)
        for name in sorted(self._gauges):
            lines += _render_family(name, "gauge", _HELP[name], self._gauges[name]())
        return ("\n".join(lines) + "\n").encode()


def _render_family(name: str, kind: str, help_text: str, series: Series) -> list[str]:
    full = _PREFIX + name
    lines = [f"# HELP {full} {help_text}", f"# TYPE {full} {kind}"]
    for labels, value in series:
        pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        lines.append(f"{full}{{{pairs}}} {value:.15g}" if pairs else f"{full} {value:.15g}")
    return lines


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
