"""arq: jobs run in the lane they were enqueued from.

arq has no message headers; the lane is stored beside the job's arguments by its serialiser.
"""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from lane_router.context.lane_context import set_lane

from .headers import lane_of, with_lane

__all__ = ("LaneJobs",)

# What arq serialises: `f` function, `a` and `k` arguments, `t` try, `et` time, `r` a result.
Job = dict[str, Any]
Hook = Callable[[dict[Any, Any]], Awaitable[None]]

_HEADERS = "h"

# The lane of the job that was deserialised last in this context. Not the current lane itself: arq
# reads a job and starts it in one task, but code that reads jobs only to list them must not end up
# in the lane of the last one.
_job_lane: ContextVar[str | None] = ContextVar("lane_of_the_job_read", default=None)


class LaneJobs:
    """The hooks for both sides, producer and worker.

        jobs = LaneJobs()
        pool = await create_pool(settings, job_serializer=jobs.serialize)
        class WorkerSettings:
            job_serializer, job_deserializer = jobs.serialize, jobs.deserialize
            on_job_start = jobs.on_job_start

    Args:
        serializer: writes a job; arq's own default is pickle.
        deserializer: reads a job.
        on_job_start: a hook of your own, called once the lane is set.
    """

    def __init__(
        self,
        *,
        serializer: Callable[[Job], bytes] = pickle.dumps,
        deserializer: Callable[[bytes], Job] = pickle.loads,
        on_job_start: Hook | None = None,
    ) -> None:
        self._serializer = serializer
        self._deserializer = deserializer
        self._hook = on_job_start

    def serialize(self, job: Job) -> bytes:
        """Write a job with the current lane; a result is written unchanged."""
        if "r" not in job:
            headers = with_lane(job.get(_HEADERS))
            job = {**job, _HEADERS: headers} if headers else job
        return self._serializer(job)

    def deserialize(self, data: bytes) -> Job:
        """Read a job, and remember its lane for `on_job_start`."""
        job = self._deserializer(data)
        headers = job.get(_HEADERS)
        _job_lane.set(lane_of(headers) if isinstance(headers, dict) else None)
        return job

    async def on_job_start(self, ctx: dict[Any, Any]) -> None:
        """Set the job's lane for the rest of arq's task, which runs this one job only."""
        set_lane(_job_lane.get())
        if self._hook is not None:
            await self._hook(ctx)
