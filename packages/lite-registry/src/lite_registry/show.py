"""`lite-registry routes` and `lite-registry instances`: a running server's content as tables."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import quote, urlsplit

from .errors import SettingsError
from .http_client import HttpClient

__all__ = ("fetch_lines",)

Row = tuple[str, ...]


async def fetch_lines(url: str, kind: str, service: str | None, *, as_json: bool) -> list[str]:
    """The lines to print.

    Args:
        kind: `routes` or `instances`.
        service: only this one; None for all.

    Raises:
        SettingsError: the address is illegal, or the server does not know the service.
        HttpClientError: there is no usable response.
    """
    if urlsplit(url).scheme != "http":
        raise SettingsError(f"--url must be an http address such as http://host:8080, not {url!r}")
    target = f"/v1/{kind}" + (f"/{quote(service, safe='')}" if service else "")
    response = await HttpClient(url).request("GET", target)
    document = response.json()
    if response.status != 200:
        raise SettingsError(escape_controls(str(document.get("detail", f"HTTP {response.status}"))))
    if as_json:
        return [json.dumps(document)]  # in ASCII: a terminal obeys some characters beyond it
    if kind == "routes":
        services = {service: document} if service else document["services"]
        return _format_table(_build_route_rows(cast("dict[str, dict[str, object]]", services)))
    if service:
        return _format_table(
            _build_instance_rows(cast("list[dict[str, object]]", document["instances"]))
        )
    return _format_table(_build_service_rows(cast("list[dict[str, object]]", document["services"])))


def _build_route_rows(services: dict[str, dict[str, object]]) -> list[Row]:
    rows: list[Row] = [("SERVICE", "LANE", "HOST", "PORT", "READY")]
    for name, route in sorted(services.items()):
        lanes = cast("dict[str, dict[str, object]]", route["lane"])
        for lane, target in [
            ("", cast("dict[str, object]", route["base"])),
            *sorted(lanes.items()),
        ]:
            if target:
                ready = "?" if target["ready"] is None else str(target["ready"])
                rows.append(
                    (name, lane or "(base)", str(target["name"]), str(target["port"]), ready)
                )
    return rows


def _build_instance_rows(instances: list[dict[str, object]]) -> list[Row]:
    rows: list[Row] = [("INSTANCE", "ADDRESS", "WEIGHT", "STATE", "METADATA")]
    for instance in instances:
        state = "up" if instance["healthy"] and instance["enabled"] else "out"
        labels = cast("dict[str, str]", instance["metadata"])
        metadata = " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        address = f"{instance['ip']}:{instance['port']}"
        rows.append((str(instance["id"]), address, f"{instance['weight']:g}", state, metadata))
    return rows


def _build_service_rows(services: list[dict[str, object]]) -> list[Row]:
    rows: list[Row] = [("SERVICE", "GROUP", "NAMESPACE", "INSTANCES")]
    keys = ("service", "group", "namespace", "instances")
    return rows + [tuple(str(service[key]) for key in keys) for service in services]


def escape_controls(text: str) -> str:
    """The text with escapes for what a terminal would obey: anybody may have registered it."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _format_table(rows: list[Row]) -> list[str]:
    rows = [tuple(map(escape_controls, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
