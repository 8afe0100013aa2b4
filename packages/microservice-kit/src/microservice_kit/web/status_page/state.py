"""What the status page shows of a process, as one document: bounded, and with secrets masked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, cast

from microservice_core import ServiceInstance
from microservice_kit.config.versions import MASK, ConfigVersion, KeyChange, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

    from microservice_client import AsyncServiceClient, CallRecord
    from microservice_kit.config.service import ConfigService
    from microservice_kit.health.checks import Health
    from microservice_kit.registration.registrar import Registration
    from microservice_kit.services import AnyServices

__all__ = ("differences", "state_of")

MOST_SERVICES = 200
MOST_INSTANCES = 1000
MOST_LANES = 50
MOST_CHANGES = 500
MOST_LABELS = 20
LONGEST_TEXT = 300

Document = dict[str, object]

_OWN_LABELS = frozenset({"version", "lane", "zone"})


async def state_of(services: AnyServices, *, zero: datetime) -> Document:
    """Everything of now but the differences between versions.

    Args:
        zero: what time it was when the service client's clock said 0.
    """
    lazy = services.lazy_service_client
    client = await lazy.prepare() if lazy is not None else None
    calls = client.recent_calls() if client is not None else ()
    return {
        "health": await _health(services.health),
        "config": _config(services.config),
        "registrations": [_registration(one) for one in services.registrations],
        "breakers": _named_breakers(),
        **(
            await _services(client)
            if client is not None
            else {"services": [], "services_left_out": 0}
        ),
        "calls": [_call(one, zero + timedelta(seconds=one.ended_at)) for one in calls],
    }


def differences(config: ConfigService[BaseModel], old: int, new: int) -> Document:
    """What differs between two versions, a value as the JSON text of it.

    Raises:
        InvalidValueError: a version is not kept.
    """
    changes = config.diff(old, new)
    return {
        "old": old,
        "new": new,
        "changes": [_change(one) for one in changes[:MOST_CHANGES]],
        "left_out": max(0, len(changes) - MOST_CHANGES),
    }


async def _health(health: Health) -> Document:
    results = await health.check()
    return {
        "status": await health.status(),
        "checks": [
            {
                "name": _clipped(name),
                "status": result.status,
                "detail": _clipped(result.detail),
                "seconds": result.seconds,
            }
            for name, result in sorted(results.items())
        ],
    }


def _config(config: ConfigService[BaseModel]) -> Document:
    return {
        "current": config.version.id,
        "pinned": config.pinned,
        "degraded": config.degraded,
        "problem": _clipped(str(config.problem)) if config.problem else None,
        "versions": [_version(one) for one in config.versions],
    }


def _version(version: ConfigVersion[BaseModel]) -> Document:
    return {
        "id": version.id,
        "md5": version.md5,
        "time": version.time.isoformat(),
        "origin": version.origin,
        "documents": [
            {"data_id": _clipped(data_id), "md5": md5} for data_id, md5 in version.sources.items()
        ],
    }


def _change(change: KeyChange) -> Document:
    return {
        "key": _clipped(change.key),
        "kind": change.kind,
        "old": None if change.kind == "added" else _as_text(change.old),
        "new": None if change.kind == "removed" else _as_text(change.new),
    }


def _registration(registration: Registration) -> Document:
    told = _instance(registration.instance, "")
    return {
        "service": _clipped(registration.instance.service_name),
        "registered": registration.registered,
        "in_rotation": registration.in_rotation,
        **told,
    }


async def _services(client: AsyncServiceClient) -> Document:
    known = sorted(client.known_instances().items())
    room = MOST_INSTANCES
    shown_services = []
    for name, instances in known[:MOST_SERVICES]:
        kept = sorted(instances, key=lambda one: one.instance_id)[:room]
        shown_services.append(_service(client, name, instances, kept))
        room -= len(kept)
        await asyncio.sleep(0)  # a large document must not hold up the calls of the application
    return {"services": shown_services, "services_left_out": max(0, len(known) - MOST_SERVICES)}


def _service(
    client: AsyncServiceClient,
    name: str,
    instances: Sequence[ServiceInstance],
    kept: Sequence[ServiceInstance],
) -> Document:
    breakers = client.breaker_states(name)
    lanes = Counter(one.lane for one in instances)
    return {
        "service": _clipped(name),
        "age_seconds": client.discovery_age(name),
        "lanes": {_clipped(lane): lanes[lane] for lane in islice(sorted(lanes), MOST_LANES)},
        "instances": [_instance(one, breakers.get(one.instance_id, "")) for one in kept],
        "instances_left_out": len(instances) - len(kept),
    }


def _instance(instance: ServiceInstance, breaker: str) -> Document:
    others = ((key, value) for key, value in instance.metadata.items() if key not in _OWN_LABELS)
    return {
        "id": _clipped(instance.instance_id),
        "address": _clipped(instance.address),
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "version": _clipped(instance.version),
        "lane": _clipped(instance.lane),
        "zone": _clipped(instance.zone),
        "breaker": breaker,
        "metadata": _labels(islice(others, MOST_LABELS)),
    }


def _labels(labels: Iterable[tuple[str, str]]) -> Document:
    return {_clipped(key): _clipped(str(shown(key, value))) for key, value in labels}


def _named_breakers() -> Mapping[str, str]:
    """The breakers of `@circuit_breaker`; without importing it for an application that has none."""
    decorators = sys.modules.get("microservice_kit.decorators")
    if decorators is None:
        return {}
    states = cast("Mapping[str, str]", decorators.breaker_states())
    return {_clipped(name): state for name, state in sorted(states.items())}


def _call(call: CallRecord, ended: datetime) -> Document:
    return {
        "time": ended.isoformat(),
        "service": _clipped(call.service),
        "method": _clipped(call.method),
        "path": _clipped(call.path),
        "outcome": call.outcome,
        "seconds": call.duration_seconds,
        "lane": _clipped(call.labels.get("lane", "")),
        "instance": _clipped(call.attempts[-1].instance_id) if call.attempts else "",
        "attempts": [f"{_clipped(one.instance_id)} {one.outcome}" for one in call.attempts],
    }


def _as_text(value: object) -> str:
    """The value so that `5` and `"5"` can be told apart."""
    if value == MASK:
        return MASK
    try:
        return _clipped(json.dumps(value, default=str, ensure_ascii=False))
    except TypeError:  # a mapping whose keys JSON does not know, such as dates
        return _clipped(str(value))


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
