"""arq's own writing and reading of jobs; a real worker on a real Redis is in the integration tests."""

import asyncio
import json
from typing import Any

from arq.jobs import deserialize_job_raw, serialize_job

from lane_router import current_lane, lane_scope
from lane_router.messages.arq_jobs import LaneJobs


async def run_job(jobs: LaneJobs, data: bytes) -> tuple[str, str | None]:
    """What arq's worker does with a job, in the task it starts for it."""
    name, args, kwargs, _, _ = deserialize_job_raw(data, deserializer=jobs.deserialize)
    await jobs.on_job_start({"job_id": "1"})
    return f"{name}{args}{kwargs}", current_lane()


async def test_a_job_runs_in_the_lane_it_was_enqueued_from() -> None:
    started: list[str | None] = []

    async def hook(ctx: dict[Any, Any]) -> None:
        started.append(current_lane())

    jobs = LaneJobs(on_job_start=hook)
    for lane in ("dev", None, "test"):
        with lane_scope(lane):
            data = serialize_job("look", (1,), {"a": 2}, 1, 0, serializer=jobs.serialize)
        result = await asyncio.create_task(run_job(jobs, data))
        assert result == ("look(1,){'a': 2}", lane)
    assert started == ["dev", None, "test"]
    assert current_lane() is None


def test_reading_jobs_to_list_them_does_not_change_the_lane() -> None:
    jobs = LaneJobs()
    with lane_scope("dev"):
        data = jobs.serialize({"f": "look", "k": {}})
    with lane_scope("reader"):
        assert jobs.deserialize(data)["f"] == "look"
        assert current_lane() == "reader"


def test_other_serialisers_can_be_used_and_results_carry_no_lane() -> None:
    jobs = LaneJobs(serializer=lambda job: json.dumps(job).encode(), deserializer=json.loads)
    with lane_scope("dev"):
        data = jobs.serialize({"f": "look", "k": {}})
        assert json.loads(data)["h"] == {"x-lane": "dev", "baggage": "lane=dev"}
        assert "h" not in json.loads(jobs.serialize({"f": "look", "r": 1}))
    assert jobs.serialize({"f": "look"}) == b'{"f": "look"}'
