"""arq: jobs run in the lane they were enqueued from.

arq has no message headers; the lane is put beside the arguments, where the serialiser writes them.
"""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from lane_router.context.lane_context import enter

from .headers import lane_of, with_lane

__all__ = ("LaneJobs",)

# What arq serialises: `f` function, `a` and `k` arguments, `t` try, `et` time, `r` a result.
Job = dict[str, Any]
Hook = Callable[[dict[Any, Any]], Awaitable[None]]

_HEADERS = "h"

# The job that was read last in this context. arq reads a job and starts it in one task; whoever
# else reads jobs, to list them, must not find himself in their lane.
_read: ContextVar[str | None] = ContextVar("lane_of_the_job_read", default=None)


class LaneJobs:
    """The hooks, for both sides:

        jobs = LaneJobs()
        pool = await create_pool(settings, job_serializer=jobs.serialize)
        class WorkerSettings:
            job_serializer, job_deserializer = jobs.serialize, jobs.deserialize
            on_job_start = jobs.on_job_start

    Args:
        serializer: what writes a job; arq's own default is pickle.
        deserializer: what reads it.
        on_job_start: a hook of your own, called once the lane is set.
    """  # noqa: D415

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
        """Write a job with the present lane; a result as it is."""
        if "r" not in job:
            headers = with_lane(job.get(_HEADERS))
            job = {**job, _HEADERS: headers} if headers else job
        return self._serializer(job)

    def deserialize(self, data: bytes) -> Job:
        """Read a job, and remember its lane for `on_job_start`."""
        job = self._deserializer(data)
        headers = job.get(_HEADERS)
        _read.set(lane_of(headers) if isinstance(headers, dict) else None)
        return job

    async def on_job_start(self, ctx: dict[Any, Any]) -> None:
        """Enter the job's lane: it holds for the arq task of this one job, which ends with it."""
        enter(_read.get())
        if self._hook is not None:
            await self._hook(ctx)
