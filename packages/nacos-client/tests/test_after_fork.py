"""Children of one process make choices of their own."""

import os
import random
import subprocess
import sys
import textwrap

import pytest

from nacos_client import NacosClient
from nacos_client._after_fork import call_after_fork, reseed_after_fork, run_after_fork
from nacos_client.testing import FakeNacosServer

CHILDREN = """
    import os, sys
    from nacos_client import NacosClient

    nacos = NacosClient(sys.argv[1], username="nacos", password="nacos")
    nacos.naming.instances("orders")
    for _ in range(2):
        if os.fork() == 0:
            print(*(nacos.naming.pick("orders").ip for _ in range(10)), flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_two_forked_children_pick_differently(server: FakeNacosServer) -> None:
    with NacosClient(server.address, username="nacos", password="nacos") as nacos:
        for number in range(40):
            nacos.naming.register("orders", f"10.0.0.{number}", 80)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CHILDREN), server.address],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    first, second = done.stdout.splitlines()
    assert first != second


def test_a_client_works_on_in_the_child(server: FakeNacosServer) -> None:
    with NacosClient(server.address, username="nacos", password="nacos") as nacos:
        nacos.naming.instances("orders")
        run_after_fork()
        assert list(nacos.naming.instances("orders")) == []


def test_a_generator_gets_a_seed_of_its_own() -> None:
    rng = reseed_after_fork(random.Random(1))
    run_after_fork()
    assert rng.random() != random.Random(1).random()


def test_a_hook_that_fails_stops_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    class Owner:
        calls = 0
        fails = True

        def fail(self) -> None:
            if self.fails:
                raise ValueError("a bug")

        def count(self) -> None:
            self.calls += 1

    owner = Owner()
    call_after_fork(owner.fail)
    call_after_fork(owner.count)
    run_after_fork()
    assert owner.calls == 1
    assert "a hook after the fork failed" in caplog.text
