"""How much of the toolkit's code a registration walks through: what is not needed is not entered."""

import subprocess
import sys

MOST_FILES = 16

# In a process of its own: what other tests declared would be entered as well.
PROGRAM = """
import asyncio, sys
from microservice_core import InMemoryServiceRegistry
from microservice_kit import MicroserviceModule

visited = set()

def record(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and ("microservice_core" in name or "microservice_kit" in name):
        visited.add(name)

def create_module():
    return MicroserviceModule(
        service_registry=InMemoryServiceRegistry(),
        service_name="orders", host="10.0.0.7", port=8000, leave_seconds=0.0,
    )

async def main():
    async with create_module():
        pass  # imports, and whatever is done once
    module = create_module()
    sys.setprofile(record)
    await module.__aenter__()
    sys.setprofile(None)
    await module.__aexit__(None, None, None)

asyncio.run(main())
print(*sorted(visited), sep="\\n")
"""


def test_a_registration_visits_few_files() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    files = answer.stdout.split()
    assert 0 < len(files) <= MOST_FILES, files
