"""The lane in gRPC metadata, and the host in a gRPC target."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lane_router.propagation.carriers import BAGGAGE, Carriers
from lane_router.routing.egress import Egress, Plan

__all__ = ("Metadata", "host_and_port", "planned", "read")

# Pairs of a key in lower case and a text, or bytes for keys that end with -bin.
Metadata = list[tuple[str, str | bytes]]


_TARGET = re.compile(r"(?P<host>[-\w.]+|\[[0-9a-fA-F:]+\])(:(?P<port>\d{1,5}))?")


def host_and_port(target: str) -> tuple[str, int]:
    """Of `host:port`, `host` (port 0) and both after `dns:///`; ("", 0) for any other scheme."""
    rest = target.removeprefix("dns:").lstrip("/") if target.startswith("dns:") else target
    found = _TARGET.fullmatch(rest)
    return (found["host"].strip("[]"), int(found["port"] or 0)) if found else ("", 0)


def planned(
    egress: Egress, host: str, port: int, given: Iterable[tuple[str, str | bytes]] | None
) -> tuple[Plan, Metadata]:
    """The plan for one RPC, and its metadata as the plan wants it.

    Raises:
        LaneUnavailableError: the lane has nobody, and its mode is strict.
    """
    pairs = list(given or ())
    headers = _carried(egress.carriers, pairs)
    plan = egress.plan(host, port, headers)
    return plan, _merged(egress.carriers, pairs, headers)


def marked(egress: Egress, plan: Plan, given: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata for a plan that was made before."""
    pairs = list(given or ())
    headers = _carried(egress.carriers, pairs)
    egress.mark(plan, headers)
    return _merged(egress.carriers, pairs, headers)


def read(
    carriers: Carriers, pairs: Iterable[tuple[str, str | bytes]]
) -> tuple[list[str], list[str]]:
    """The values of the lane's key and of baggage."""
    texts = [(key, value) for key, value in pairs if isinstance(value, str)]
    lanes = [value for key, value in texts if key == carriers.header]
    return lanes, [value for key, value in texts if key == BAGGAGE]


def _carried(carriers: Carriers, pairs: Metadata) -> dict[str, str]:
    lanes, baggage = read(carriers, pairs)
    headers = {carriers.header: lanes[-1]} if lanes else {}
    return {**headers, **({BAGGAGE: ",".join(baggage)} if baggage else {})}


def _merged(carriers: Carriers, pairs: Metadata, headers: dict[str, str]) -> Metadata:
    others = [pair for pair in pairs if pair[0] not in {carriers.header, BAGGAGE}]
    return [*others, *headers.items()]
