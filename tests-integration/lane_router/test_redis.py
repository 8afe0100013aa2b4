"""Celery, arq and Redis streams on a real Redis."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from celery import chord, group
from required_servers import read_variable

from lane_router import LaneRouter, current_lane, lane_scope
from lane_router.messages import ConsumerLane
from lane_router.messages.arq_jobs import LaneJobs
from lane_router.messages.redis_streams import LaneStream

HERE = Path(__file__).parent
LANES = ["dev", None, "test", "prod", "ppe-one"]

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def url() -> str:
    return read_variable("REDIS_URL")


def test_celery_tasks_retries_and_chords_run_in_the_lane_they_were_sent_from(
    url: str, start: Start
) -> None:
    environment = {
        "CELERY_REDIS_URL": url,
        "CELERY_QUEUE": f"lanes-{uuid4().hex}",
        "PYTHONPATH": str(HERE),
    }
    os.environ |= environment
    start("-m", "celery", "-A", "celery_app", "worker", "--concurrency", "2", "--loglevel",
          "warning", "--without-gossip", "--without-mingle", environment=environment)  # fmt: skip
    spec = importlib.util.spec_from_file_location("celery_app", HERE / "celery_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["celery_app"] = module
    spec.loader.exec_module(module)
    sent = []
    for lane in LANES * 10:
        with lane_scope(lane):
            sent.append((lane, module.look.delay()))
    for lane, result in sent:
        told = None if lane == "prod" else lane
        assert result.get(timeout=60).partition(":")[2] == str(told)
    pids = {result.get().partition(":")[0] for _, result in sent}
    assert str(os.getpid()) not in pids
    with lane_scope("dev"):
        retried = module.retrying.delay()
        together = chord(group(module.look.s() for _ in range(3)))(module.look.s())
    assert retried.get(timeout=60) == "dev"
    assert together.get(timeout=60).endswith(":dev")


async def test_arq_jobs_run_in_the_lane_they_were_enqueued_from(url: str) -> None:
    jobs, queue = LaneJobs(), f"lanes-{uuid4().hex}"
    pool = await create_pool(
        RedisSettings.from_dsn(url),
        job_serializer=jobs.serialize,
        job_deserializer=jobs.deserialize,
        default_queue_name=queue,
    )

    async def look(ctx: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return str(current_lane())

    sent = []
    for lane in LANES * 4:
        with lane_scope(lane):
            job = await pool.enqueue_job("look")
            assert job is not None
            sent.append((lane, job))
    with lane_scope("reader"):
        assert len(await pool.queued_jobs()) == len(sent)
        assert current_lane() == "reader"
    worker = Worker(
        functions=[_named(look)],
        redis_pool=pool,
        queue_name=queue,
        burst=True,
        handle_signals=False,
        poll_delay=0.01,
        job_serializer=jobs.serialize,
        job_deserializer=jobs.deserialize,
        on_job_start=jobs.on_job_start,
    )
    await worker.main()
    for lane, job in sent:
        assert await job.result(timeout=20) == str(None if lane == "prod" else lane)
    await worker.close()


def _named(function: Any) -> Any:
    from arq.worker import func

    return func(function, name="look")


@pytest.fixture
async def stream(url: str) -> AsyncIterator[LaneStream]:
    client = redis.asyncio.from_url(url)
    name = f"lanes:{uuid4().hex}"
    yield LaneStream(client, name)
    await client.delete(name)
    await client.aclose()


async def test_each_stream_entry_is_handled_once_by_base_or_by_its_lane(stream: LaneStream) -> None:
    document = {"services": {"billing": {"lanes": ["dev", "test"], "port": 80}}}
    router = LaneRouter.from_document(document)
    consumers = {
        lane: ConsumerLane("billing", service="billing", router=router, lane=lane)
        for lane in (None, "dev", "test")
    }
    for consumer in consumers.values():
        await stream.join(consumer)
    sent = []
    for number in range(200):
        with lane_scope(LANES[number % len(LANES)]):
            sent.append(await stream.add({"number": str(number)}))
    seen: list[tuple[int, str | None, str | None]] = []
    for by, consumer in consumers.items():

        async def handle(identity: str, fields: dict[str, str], by: str | None = by) -> None:
            seen.append((int(fields["number"]), by, current_lane()))

        handled = 0
        while found := await stream.read(consumer, "c", handle, count=1000, block_seconds=0.05):
            handled += found
        assert handled == {None: 120, "dev": 40, "test": 40}[by]
    assert sorted(number for number, _, _ in seen) == list(range(200))
    for number, by, lane in seen:
        asked = LANES[number % len(LANES)]
        assert lane == (None if asked == "prod" else asked)
        assert by == (asked if asked in {"dev", "test"} else None)
