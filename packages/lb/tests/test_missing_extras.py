"""Without the extras, what needs them says so; all else works."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys
sys.modules["xxhash"] = None
sys.modules["opentelemetry"] = None
import microservice_lb as lb
from microservice_core import MissingDependencyError
try:
    {call}
except MissingDependencyError as error:
    print(error)
lb.create("ring").update([])
"""


@pytest.mark.parametrize(
    ("call", "install"),
    [
        ("lb.RingHash(compatible='envoy')", "microservice-lb[xxhash]"),
        ("lb.Maglev(compatible='envoy')", "microservice-lb[xxhash]"),
        ("lb.RingHash(hash='xxh64')", "microservice-lb[xxhash]"),
        ("lb.OtelObserver('orders')", "microservice-lb[otel]"),
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
