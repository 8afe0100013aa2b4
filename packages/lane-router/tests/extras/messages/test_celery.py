# mypy: disable-error-code="untyped-decorator"
"""Celery with its in-memory broker and a real worker in a thread."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, chain, signals
from celery.contrib.testing.worker import start_worker

from lane_router import current_lane, lane_scope
from lane_router.messages.celery_tasks import instrument_celery, uninstrument_celery


def application() -> Celery:
    app = Celery("lanes", broker="memory://", backend="cache+memory://")
    app.conf.update(
        worker_hijack_root_logger=False, broker_transport_options={"polling_interval": 0.01}
    )
    task: Any = app.task

    @task(name="report_lane")
    def report_lane(*_: object) -> str:
        return str(current_lane())

    @task(name="headers", bind=True)
    def headers(self: Task) -> dict[str, object]:
        return dict(self.request.headers or {})

    @task(name="retrying", bind=True, max_retries=2)
    def retrying(self: Task) -> str:
        if self.request.retries < 1:
            raise self.retry(countdown=0)
        return str(current_lane())

    @task(name="failing")
    def failing() -> None:
        raise RuntimeError(str(current_lane()))

    @task(name="sending")
    def sending() -> str:
        return str(report_lane.delay().get(disable_sync_subtasks=False, timeout=20))

    return app


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    instrument_celery()
    instrument_celery()
    app = application()
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
        yield app
    uninstrument_celery()


pytestmark = pytest.mark.filterwarnings("ignore")


def run(app: Celery, name: str, **options: object) -> object:
    return app.send_task(name, **options).get(timeout=20)


def test_a_task_runs_in_the_lane_it_was_sent_from_and_the_next_in_its_own(app: Celery) -> None:
    for lane in ("dev", "test", None, "dev"):
        with lane_scope(lane):
            assert run(app, "report_lane") == str(lane)


def test_retries_chains_and_tasks_sent_by_tasks_stay_in_the_lane(app: Celery) -> None:
    with lane_scope("dev"):
        assert run(app, "retrying") == "dev"
        assert run(app, "sending") == "dev"
        report_lane = app.tasks["report_lane"]
        assert chain(report_lane.s(), report_lane.s())().get(timeout=20) == "dev"


def test_a_task_that_fails_leaves_no_lane_behind(app: Celery) -> None:
    with lane_scope("dev"), pytest.raises(RuntimeError, match="dev"):
        run(app, "failing")
    assert run(app, "report_lane") == "None"


def test_headers_of_the_user_are_never_clobbered(app: Celery) -> None:
    with lane_scope("dev"):
        fields = run(app, "headers", headers={"user": "7", "x-lane": "mine"})
    assert isinstance(fields, dict)
    assert (fields["user"], fields["x-lane"]) == ("7", "mine")


def test_an_eager_task_stays_in_its_callers_lane(app: Celery) -> None:
    with lane_scope("dev"):
        assert app.tasks["report_lane"].apply().get() == "dev"
        assert current_lane() == "dev"


def test_undone_it_does_nothing() -> None:
    instrument_celery()
    uninstrument_celery()
    headers: dict[str, object] = {}
    with lane_scope("dev"):
        signals.before_task_publish.send(sender="x", headers=headers)
    assert headers == {}
