"""`lite-registry routes` and `lite-registry instances`: what a running server says, for people."""

from __future__ import annotations

from typing import cast
from urllib.parse import quote, urlsplit

from .errors import SettingsError
from .http_client import HttpClient

__all__ = ("show",)

Row = tuple[str, ...]


async def show(url: str, what: str, service: str | None, *, as_json: bool) -> list[str]:
    """The lines to print.

    Raises:
        SettingsError: the server does not answer so, or does not know the service.
    """
    if urlsplit(url).scheme != "http":
        raise SettingsError(f"--url must be an http address such as http://host:8080, not {url!r}")
    target = f"/v1/{what}" + (f"/{quote(service, safe='')}" if service else "")
    answer = await HttpClient(url).ask("GET", target)
    document = answer.json()
    if answer.status != 200:
        raise SettingsError(str(document.get("detail", f"HTTP {answer.status}")))
    if as_json:
        return [answer.body.decode()]
    if what == "routes":
        services = {service: document} if service else document["services"]
        return _table(_route_rows(cast("dict[str, dict[str, object]]", services)))
    if service:
        return _table(_instance_rows(cast("list[dict[str, object]]", document["instances"])))
    return _table(_service_rows(cast("list[dict[str, object]]", document["services"])))


def _route_rows(services: dict[str, dict[str, object]]) -> list[Row]:
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


def _instance_rows(instances: list[dict[str, object]]) -> list[Row]:
    rows: list[Row] = [("INSTANCE", "ADDRESS", "WEIGHT", "STATE", "METADATA")]
    for one in instances:
        state = "up" if one["healthy"] and one["enabled"] else "out"
        labels = cast("dict[str, str]", one["metadata"])
        told = " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        address = f"{one['ip']}:{one['port']}"
        rows.append((str(one["id"]), address, f"{one['weight']:g}", state, told))
    return rows


def _service_rows(services: list[dict[str, object]]) -> list[Row]:
    rows: list[Row] = [("SERVICE", "GROUP", "NAMESPACE", "INSTANCES")]
    keys = ("service", "group", "namespace", "instances")
    return rows + [tuple(str(one[key]) for key in keys) for one in services]


def _table(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
