import gc
import json
import os
import random
import weakref
from typing import Any

import pytest

from microservice_core import call_after_fork, reseed_after_fork, run_after_fork


class Member:
    def __init__(self) -> None:
        self.forks = 0

    def renew(self) -> None:
        self.forks += 1


def test_generators_go_different_ways_and_hooks_are_called() -> None:
    rng, member = reseed_after_fork(random.Random(7)), Member()
    state = rng.getstate()
    call_after_fork(member.renew)
    run_after_fork()
    assert rng.getstate() != state
    assert member.forks == 1


def test_nothing_is_kept_alive() -> None:
    rng, member = reseed_after_fork(random.Random(7)), Member()
    call_after_fork(member.renew)
    references: list[weakref.ref[Any]] = [weakref.ref(rng), weakref.ref(member)]
    del rng, member
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    run_after_fork()


def test_a_hook_that_fails_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def renew(self) -> None:
            raise OSError("no")

    broken, member = Broken(), Member()
    call_after_fork(broken.renew)
    call_after_fork(member.renew)
    run_after_fork()
    assert member.forks == 1
    assert caplog.records[0].message == "a hook after the fork failed"


def test_a_function_is_called_always() -> None:
    calls: list[int] = []

    def hook() -> None:
        calls.append(1)

    call_after_fork(hook)
    del hook
    gc.collect()
    run_after_fork()
    assert calls == [1]


def in_child(read: Any) -> Any:
    """What `read` returns in a forked child."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        os.write(target, json.dumps(read()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(target)
    return json.loads(os.read(source, 1000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_children_draw_different_numbers() -> None:
    rng = reseed_after_fork(random.Random(7))
    drawn = [in_child(rng.random) for _ in range(4)]
    assert len({*drawn, rng.random()}) == 5
