"""The Celery application of the test: `python -m celery -A celery_app worker`, and its tasks."""

import os

from celery import Celery

from lane_router import current_lane
from lane_router.messages.celery_tasks import instrument_celery

url = os.environ["CELERY_REDIS_URL"]
app = Celery("lanes", broker=url, backend=url)
app.conf.update(task_default_queue=os.environ["CELERY_QUEUE"], result_expires=60)
instrument_celery()


@app.task(name="look")  # type: ignore[untyped-decorator]
def look(*_: object) -> str:
    return f"{os.getpid()}:{current_lane()}"


@app.task(name="retrying", bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def retrying(self: object) -> str:
    if self.request.retries < 2:  # type: ignore[attr-defined]
        raise self.retry(countdown=0)  # type: ignore[attr-defined]
    return str(current_lane())
