"""The lane in gRPC metadata, and the host in a gRPC target."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lane_router.propagation.carriers import BAGGAGE, Carriers
from lane_router.routing.egress import Egress, Plan

__all__ = ("Metadata", "parse_target", "plan_rpc", "read_carriers", "write_lane")

# Pairs of a key in lower case and a text, or bytes for keys that end with -bin.
Metadata = list[tuple[str, str | bytes]]

_TARGET = re.compile(r"(?P<host>[-\w.]+|\[[0-9a-fA-F:]+\])(:(?P<port>\d{1,5}))?")


def parse_target(target: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `host` (port 0) and both after `dns:///`.

    ("", 0) for any other scheme, whose targets are not host names.
    """
    address = target.removeprefix("dns:").lstrip("/") if target.startswith("dns:") else target
    match = _TARGET.fullmatch(address)
    return (match["host"].strip("[]"), int(match["port"] or 0)) if match else ("", 0)


def plan_rpc(
    egress: Egress,
    address: tuple[str, int, str],
    metadata: Iterable[tuple[str, str | bytes]] | None,
) -> tuple[Plan, Metadata]:
    """The plan for one RPC, and the metadata to send.

    Args:
        address: the host, the port and the scheme: `grpcs` for a channel over TLS.

    Raises:
        LaneUnavailableError: the lane has no ready instance, and its mode is strict.
    """
    pairs = list(metadata or ())
    headers = _carriers_as_headers(egress.carriers, pairs)
    host, port, scheme = address
    plan = egress.plan(host, port, headers, scheme)
    return plan, _replace_carriers(egress.carriers, pairs, headers)


def write_lane(
    egress: Egress, plan: Plan, metadata: Iterable[tuple[str, str | bytes]] | None
) -> Metadata:
    """The metadata to send by a plan that was made before."""
    pairs = list(metadata or ())
    headers = _carriers_as_headers(egress.carriers, pairs)
    egress.write_lane(plan, headers)
    return _replace_carriers(egress.carriers, pairs, headers)


def read_carriers(
    carriers: Carriers, pairs: Iterable[tuple[str, str | bytes]]
) -> tuple[list[str], list[str]]:
    """The values of the lane's key, and those of `baggage`."""
    texts = [(key, value) for key, value in pairs if isinstance(value, str)]
    lanes = [value for key, value in texts if key == carriers.header]
    return lanes, [value for key, value in texts if key == BAGGAGE]


def _carriers_as_headers(carriers: Carriers, pairs: Metadata) -> dict[str, str]:
    lanes, baggage = read_carriers(carriers, pairs)
    headers = {carriers.header: lanes[-1]} if lanes else {}
    return {**headers, **({BAGGAGE: ",".join(baggage)} if baggage else {})}


def _replace_carriers(carriers: Carriers, pairs: Metadata, headers: dict[str, str]) -> Metadata:
    others = [pair for pair in pairs if pair[0] not in {carriers.header, BAGGAGE}]
    return [*others, *headers.items()]
