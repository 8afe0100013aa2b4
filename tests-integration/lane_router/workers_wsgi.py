"""What gunicorn serves, loaded before it forks: who am I, and does my poller live?"""

import json
import os
from collections.abc import Iterable
from typing import Any

from lane_router import LaneRouter, LaneWsgiMiddleware, current_lane

router = LaneRouter(os.environ["REGISTRY"])
router.start()  # in the parent, on purpose: its thread does not survive the fork
router.wait_ready()


def look(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    found = router.resolve("orders")
    told = {"pid": os.getpid(), "polling": router.polling, "lane": current_lane()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**told, "outcome": found.outcome}).encode()]


app = LaneWsgiMiddleware(look)
