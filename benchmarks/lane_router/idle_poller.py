"""Prints how many per cent of a core the poller takes while nothing changes: `idle_poller.py SECONDS`.

The registry is lite-registry itself, in a process of its own, with 2,000 routes.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.lite_registry.running import registry

from lane_router import LaneRouter

SECONDS = float(sys.argv[1])


def main() -> None:
    services = {f"service-{n}": {"lanes": ["dev"], "port": 8000} for n in range(2000)}
    with tempfile.TemporaryDirectory() as folder:
        routes = Path(folder) / "routes.json"
        routes.write_text(json.dumps({"services": services}))
        with (
            registry("--source", "file", "--file", str(routes)) as program,
            LaneRouter(f"http://{program.host}:{program.port}") as router,
        ):
            assert router.wait_ready()
            assert router.resolve("service-1999", "dev").outcome == "lane"
            wait = threading.Event().wait
            wait(1.0)
            began, spent = time.monotonic(), time.process_time()
            wait(SECONDS)
            share = (time.process_time() - spent) / (time.monotonic() - began)
            print(f"{share * 100:.5f}")


main()
