"""The scripts the README shows, as programs of their own against real instances and a real Nacos."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from microservice_core import ServiceInstance, open_service_registry

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "client"

pytestmark = pytest.mark.timeout(120)


def run(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_script_calls_fixed_addresses(fleet: Any) -> None:
    backends = await fleet.start(2)
    backends[0].kill()
    for _ in range(2):
        assert run("addresses.py", *(one.url for one in backends)) == '200 "i1"\n'


async def test_scripts_call_what_nacos_knows_and_keep_to_their_lane(
    fleet: Any, nacos_settings: dict[str, object]
) -> None:
    base, dev = await fleet.start(2)
    group = f"client-{uuid4().hex[:8]}"
    settings = {**nacos_settings, "group": group}
    environment = {"NACOS_GROUP": group}
    async with open_service_registry("nacos", settings) as registry:
        await registry.register(base.instance)
        assert run("nacos.py", environment=environment) == '200 "i0"\n'
        await registry.register(
            ServiceInstance("orders", "127.0.0.1", dev.port, metadata={"lane": "dev"})
        )
        assert run("lanes.py", environment=environment).splitlines() == [
            'None "i0"',
            'dev "i1"',
            'another-dev "i0"',
        ]
