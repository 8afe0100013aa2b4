"""What `uvicorn --workers` serves: who am I, and does my poller live?"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lane_router import LaneMiddleware, LaneRouter, current_lane

router = LaneRouter(os.environ["REGISTRY"])


async def look(request: Request) -> Response:
    found = router.resolve("orders")
    told = {"pid": os.getpid(), "polling": router.polling, "lane": current_lane()}
    return JSONResponse({**told, "outcome": found.outcome})


app = LaneMiddleware(Starlette(routes=[Route("/", look)]))
