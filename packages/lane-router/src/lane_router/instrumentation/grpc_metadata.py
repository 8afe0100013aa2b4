"""The lane in gRPC metadata, and the host in a gRPC target."""

from __future__ import annotations

from collections.abc import Iterable

from lane_router.carriers import BAGGAGE, Carriers
from lane_router.egress import Egress, Plan

__all__ = ("Metadata", "host_and_port", "planned", "read")

# Pairs of a key in lower case and a text, or bytes for keys that end with -bin.
Metadata = list[tuple[str, str | bytes]]


def host_and_port(target: str) -> tuple[str, int]:
    """Of `host:port` and `dns:///host:port`; ("", 0) for what names no host, such as `unix:`."""
    rest = target.removeprefix("dns:").lstrip("/") if target.startswith("dns:") else target
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or "/" in host or (":" in host and host[0] != "["):
        return "", 0
    return host.strip("[]"), int(port)


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
