import asyncio
import pickle
from typing import Any

import pytest

import microservice_governance
from microservice_core import MicroserviceError
from microservice_governance import (
    CircuitOpenError,
    DeadlineExceededError,
    IllegalTransitionError,
    deadline,
)


def test_the_earlier_of_two_deadlines_holds(clock: Any) -> None:
    assert deadline.remaining(clock) is None
    with deadline(5, clock=clock):
        clock.advance(1)
        with deadline(10, clock=clock):
            assert deadline.remaining(clock) == 4
        with deadline(2, clock=clock):
            assert deadline.remaining(clock) == 2
            assert deadline.current() == clock() + 2
        assert deadline.remaining(clock) == 4
    assert deadline.current() is None


def test_check_refuses_what_begins_too_late(clock: Any) -> None:
    deadline.check(clock)
    with deadline(1, clock=clock):
        deadline.check(clock)
        clock.advance(1)
        with pytest.raises(DeadlineExceededError, match="the deadline has passed"):
            deadline.check(clock)
        assert deadline.remaining(clock) == 0
    assert issubclass(DeadlineExceededError, TimeoutError)


def test_one_object_may_be_entered_again(clock: Any) -> None:
    limit = deadline(3, clock=clock)
    with limit:
        clock.advance(1)
        with limit:
            assert deadline.remaining(clock) == 2
    clock.advance(10)
    with limit:
        assert deadline.remaining(clock) == 3


async def test_a_task_inherits_the_deadline_and_cannot_change_its_parents(clock: Any) -> None:
    async def child() -> float | None:
        inherited = deadline.remaining(clock)
        with deadline(1, clock=clock):
            await asyncio.sleep(0)
        return inherited

    with deadline(5, clock=clock):
        assert list(await asyncio.gather(child(), child())) == [5, 5]
        assert deadline.remaining(clock) == 5


@pytest.mark.parametrize(
    "error", [CircuitOpenError("a", "open", 1.5), IllegalTransitionError("a", "closed", "open")]
)
def test_errors_survive_pickling(error: MicroserviceError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_exports_are_what_the_list_says() -> None:
    assert sorted(microservice_governance.__all__) == list(microservice_governance.__all__)
    assert all(hasattr(microservice_governance, n) for n in microservice_governance.__all__)
