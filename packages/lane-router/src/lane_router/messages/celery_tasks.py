"""Celery: tasks run in the lane they were sent from; retries, chains and chords as well.

Call `instrument_celery()` in the producer and in the worker.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from celery import signals

from lane_router.context.lane_context import LaneScope

from .headers import message_scope, with_lane

__all__ = ("instrument_celery", "uninstrument_celery")

# The open scopes of the running tasks by task id: at most as many as the worker has threads.
_scopes: dict[str, LaneScope] = {}


def instrument_celery() -> None:
    """Make tasks carry the lane in their message headers; calling it twice is fine."""
    signals.before_task_publish.connect(_add_lane, weak=False, dispatch_uid=__name__)
    signals.task_prerun.connect(_enter_scope, weak=False, dispatch_uid=__name__)
    signals.task_postrun.connect(_exit_scope, weak=False, dispatch_uid=__name__)


def uninstrument_celery() -> None:
    """Undo `instrument_celery`."""
    signals.before_task_publish.disconnect(_add_lane, dispatch_uid=__name__)
    signals.task_prerun.disconnect(_enter_scope, dispatch_uid=__name__)
    signals.task_postrun.disconnect(_exit_scope, dispatch_uid=__name__)


def _add_lane(headers: MutableMapping[str, Any] | None = None, **_: object) -> None:
    if headers is None:
        return
    for name, value in with_lane(headers).items():
        headers.setdefault(name, value)


def _enter_scope(task_id: str = "", task: Any = None, **_: object) -> None:
    request = getattr(task, "request", None)
    if request is None or request.is_eager:
        return  # an eager task runs inside its caller, which is in the right lane already
    scope = message_scope(request.headers)
    scope.__enter__()  # left in _exit_scope: Celery has a signal before and one after a task
    _scopes[task_id] = scope


def _exit_scope(task_id: str = "", **_: object) -> None:
    scope = _scopes.pop(task_id, None)
    if scope is not None:
        scope.__exit__(None, None, None)
