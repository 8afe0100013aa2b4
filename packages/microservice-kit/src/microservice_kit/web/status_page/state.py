"""The state that the status page shows, as one document: bounded, and with secrets masked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import BaseModel

from microservice_core import ServiceInstance
from microservice_kit.config.secrets import MASK, mask_secrets
from microservice_kit.config.service import ConfigService
from microservice_kit.config.versions import ConfigVersion, KeyChange
from microservice_kit.context.declared_breakers import breaker_states
from microservice_kit.health.checks import Health
from microservice_kit.open_module import OpenModule
from microservice_kit.registration.registrar import Registration

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient, CallRecord

__all__ = ("build_differences", "build_state")

MAX_SERVICES = 200
MAX_INSTANCES = 1000
MAX_CHANGES = 500
MAX_TEXT = 300
_MAX_LANES = 50
_MAX_LABELS = 20

Document = dict[str, object]

_OWN_LABELS = frozenset({"version", "lane", "zone"})


async def build_state(module: OpenModule[BaseModel], *, clock_start: datetime) -> Document:
    """Build everything but the differences between versions.

    Args:
        clock_start: the time of day at which the service client's clock was 0.
    """
    lazy_client = module.parts.service_client
    client = await lazy_client.prepare() if lazy_client is not None else None
    calls = client.recent_calls() if client is not None else ()
    return {
        "health": await _build_health(module.health),
        "config": _build_config(module.config),
        "registrations": [
            _build_registration(registration) for registration in module.registrations
        ],
        "breakers": {_clip(name): state for name, state in sorted(breaker_states().items())},
        **(
            await _build_services(client)
            if client is not None
            else {"services": [], "services_left_out": 0}
        ),
        "calls": [
            _build_call(call, clock_start + timedelta(seconds=call.ended_at)) for call in calls
        ],
    }


def build_differences(config: ConfigService[BaseModel], old: int, new: int) -> Document:
    """Build what differs between two versions; each value is its JSON text.

    Raises:
        InvalidValueError: a version is not kept.
    """
    changes = config.diff(old, new)
    return {
        "old": old,
        "new": new,
        "changes": [_build_change(change) for change in changes[:MAX_CHANGES]],
        "left_out": max(0, len(changes) - MAX_CHANGES),
    }


async def _build_health(health: Health) -> Document:
    results = await health.check()
    return {
        "status": await health.status(),
        "checks": [
            {
                "name": _clip(name),
                "status": result.status,
                "detail": _clip(result.detail),
                "seconds": result.seconds,
            }
            for name, result in sorted(results.items())
        ],
    }


def _build_config(config: ConfigService[BaseModel]) -> Document:
    return {
        "current": config.version.id,
        "pinned": config.pinned,
        "degraded": config.degraded,
        "problem": _clip(str(config.problem)) if config.problem else None,
        "versions": [_build_version(version) for version in config.versions],
    }


def _build_version(version: ConfigVersion[BaseModel]) -> Document:
    return {
        "id": version.id,
        "md5": version.md5,
        "time": version.time.isoformat(),
        "origin": version.origin,
        "documents": [
            {"data_id": _clip(data_id), "md5": md5} for data_id, md5 in version.sources.items()
        ],
    }


def _build_change(change: KeyChange) -> Document:
    return {
        "key": _clip(change.key),
        "kind": change.kind,
        "old": None if change.kind == "added" else _to_json_text(change.old),
        "new": None if change.kind == "removed" else _to_json_text(change.new),
    }


def _build_registration(registration: Registration) -> Document:
    return {
        "service": _clip(registration.instance.service_name),
        "registered": registration.registered,
        "in_rotation": registration.in_rotation,
        **_build_instance(registration.instance, ""),
    }


async def _build_services(client: AsyncServiceClient) -> Document:
    known_services = sorted(client.known_instances().items())
    room = MAX_INSTANCES
    services = []
    for name, instances in known_services[:MAX_SERVICES]:
        shown = sorted(instances, key=lambda instance: instance.instance_id)[:room]
        services.append(_build_service(client, name, instances, shown))
        room -= len(shown)
        await asyncio.sleep(0)  # a large document must not hold up the calls of the application
    left_out = max(0, len(known_services) - MAX_SERVICES)
    return {"services": services, "services_left_out": left_out}


def _build_service(
    client: AsyncServiceClient,
    name: str,
    instances: Sequence[ServiceInstance],
    shown: Sequence[ServiceInstance],
) -> Document:
    breakers = client.breaker_states(name)
    lanes = Counter(instance.lane for instance in instances)
    return {
        "service": _clip(name),
        "age_seconds": client.discovery_age(name),
        "lanes": {_clip(lane): lanes[lane] for lane in islice(sorted(lanes), _MAX_LANES)},
        "instances": [
            _build_instance(instance, breakers.get(instance.instance_id, "")) for instance in shown
        ],
        "instances_left_out": len(instances) - len(shown),
    }


def _build_instance(instance: ServiceInstance, breaker: str) -> Document:
    others = ((key, value) for key, value in instance.metadata.items() if key not in _OWN_LABELS)
    return {
        "id": _clip(instance.instance_id),
        "address": _clip(instance.address),
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "version": _clip(instance.version),
        "lane": _clip(instance.lane),
        "zone": _clip(instance.zone),
        "breaker": breaker,
        "metadata": _build_labels(islice(others, _MAX_LABELS)),
    }


def _build_labels(labels: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    return {_clip(key): _clip(str(mask_secrets(key, value))) for key, value in labels}


def _build_call(call: CallRecord, ended_at: datetime) -> Document:
    return {
        "time": ended_at.isoformat(),
        "service": _clip(call.service),
        "method": _clip(call.method),
        "path": _clip(call.path),
        "outcome": call.outcome,
        "seconds": call.duration_seconds,
        "lane": _clip(call.labels.get("lane", "")),
        "instance": _clip(call.attempts[-1].instance_id) if call.attempts else "",
        "attempts": [
            f"{_clip(attempt.instance_id)} {attempt.outcome}" for attempt in call.attempts
        ],
    }


def _to_json_text(value: object) -> str:
    """Return the JSON text, so that `5` and `"5"` differ; the mask as it is."""
    if value == MASK:
        return MASK
    try:
        return _clip(json.dumps(value, default=str, ensure_ascii=False))
    except TypeError:  # a mapping with keys that JSON does not know, such as dates
        return _clip(str(value))


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
