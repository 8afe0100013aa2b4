"""Metrics in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

__all__ = ("Metrics",)

PREFIX = "lite_registry_"

HELP = {
    "http_requests": "Requests answered, by path template and status.",
    "http_connections": "Clients connected.",
    "watchers": "Requests that wait for a change.",
    "routes": 'Ready endpoints of each lane; the base has lane="".',
    "routes_version": "Always 1; the label says which content is served.",
    "sync_age_seconds": "Time since the source of routes was last seen.",
    "stale": "1 while the source of routes cannot be seen.",
    "relists": "Complete lists taken from the API server.",
    "list_failures": "Lists that failed, by HTTP status or `connection`.",
    "watch_restarts": "Watches that ended, by reason.",
    "shrink_guards": "Lists that were confirmed by a second one, as much had vanished.",
    "rejected_services": "Services that make no route, by reason.",
    "instances": "Leased instances.",
    "leases_lapsed": "Leases that were not renewed in time.",
    "self_preservation": "1 while lapsed leases are kept, as too many lapsed at once.",
    "snapshot_failures": "Snapshots that could not be written.",
    "store_failures": "Operations on the lease store that failed.",
}

Series = Iterable[tuple[dict[str, str], float]]


class Metrics:
    """Counters that are counted up, gauges that are read when somebody asks."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter[tuple[tuple[str, str], ...]]] = {}
        self._gauges: dict[str, Callable[[], Series]] = {}

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Count it up; label values have to come from a bounded set."""
        self._counters.setdefault(name, Counter())[tuple(labels.items())] += by

    def gauge(self, name: str, read: Callable[[], Series]) -> None:
        """Ask `read` whenever the metrics are read."""
        self._gauges[name] = read

    def render(self) -> bytes:
        """The page for `/metrics`."""
        lines: list[str] = []
        for name in sorted(self._counters):
            series = ((dict(labels), n) for labels, n in sorted(self._counters[name].items()))
            lines += _family(f"{name}_total", "counter", HELP[name], series)
        for name in sorted(self._gauges):
            lines += _family(name, "gauge", HELP[name], self._gauges[name]())
        return ("\n".join(lines) + "\n").encode()


def _family(name: str, kind: str, told: str, series: Series) -> list[str]:
    full = PREFIX + name
    lines = [f"# HELP {full} {told}", f"# TYPE {full} {kind}"]
    for labels, value in series:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{full}{{{inside}}} {value:.15g}" if inside else f"{full} {value:.15g}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
