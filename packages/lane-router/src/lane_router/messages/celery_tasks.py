"""Celery: tasks run in the lane they were sent from; retries, chains and chords too.

`instrument_celery()` in the producer and in the worker is all there is to do.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from celery import signals

from lane_router.context.lane_context import LaneScope

from .headers import message_scope, with_lane

__all__ = ("instrument_celery", "uninstrument_celery")

# The tasks that run now, by id: as many as the worker has threads.
_running: dict[str, LaneScope] = {}


def instrument_celery() -> None:
    """From now on tasks carry the lane in their message headers; twice is fine."""
    signals.before_task_publish.connect(_publishing, weak=False, dispatch_uid=__name__)
    signals.task_prerun.connect(_starting, weak=False, dispatch_uid=__name__)
    signals.task_postrun.connect(_ended, weak=False, dispatch_uid=__name__)


def uninstrument_celery() -> None:
    """Undo it."""
    signals.before_task_publish.disconnect(_publishing, dispatch_uid=__name__)
    signals.task_prerun.disconnect(_starting, dispatch_uid=__name__)
    signals.task_postrun.disconnect(_ended, dispatch_uid=__name__)


def _publishing(headers: MutableMapping[str, Any] | None = None, **_: object) -> None:
    if headers is None:
        return
    for name, value in with_lane(headers).items():
        headers.setdefault(name, value)


def _starting(task_id: str = "", task: Any = None, **_: object) -> None:
    request = getattr(task, "request", None)
    if request is None or request.is_eager:
        return  # an eager task runs inside its caller, in the lane that is there
    scope = message_scope(request.headers)
    scope.__enter__()
    _running[task_id] = scope


def _ended(task_id: str = "", **_: object) -> None:
    scope = _running.pop(task_id, None)
    if scope is not None:
        scope.__exit__(None, None, None)
