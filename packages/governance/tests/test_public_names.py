import subprocess
import sys

import pytest

import microservice_governance

BLOCKED = """
import sys
sys.modules["redis"] = None
sys.modules["opentelemetry"] = None
import microservice_governance as governance
from microservice_core import MissingDependencyError
try:
    {call}
except MissingDependencyError as error:
    print(error)
governance.CircuitBreaker("orders").run(str)
"""


def test_every_public_name_is_there_once() -> None:
    names = microservice_governance.__all__
    assert len(names) == len(set(names))
    lazy = microservice_governance._LAZY
    assert set(lazy) <= set(names)
    for name in set(names) - set(lazy):
        assert getattr(microservice_governance, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        microservice_governance.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("call", "install"),
    [
        ("governance.RedisRateLimiter(None)", "microservice-governance[redis]"),
        ("governance.AsyncRedisBreakerSharing(None, [])", "microservice-governance[redis]"),
        ("governance.record_metrics(governance.Timeout(1))", "microservice-governance[otel]"),
    ],
)
def test_the_error_names_what_to_install(call: str, install: str) -> None:
    heard = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout
    assert f'pip install "{install}"' in heard
