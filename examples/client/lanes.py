"""The same in a lane: instances of lane `dev` if there are any, else the others."""

import asyncio

import httpx

from lane_router import LaneInstanceFilter, lane_headers, lane_scope
from microservice_client import AsyncServiceClient
from microservice_core import open_service_registry


def add_lane_headers(request: httpx.Request) -> None:
    request.headers.update(lane_headers())


async def main() -> None:
    async with AsyncServiceClient(
        open_service_registry("nacos"),
        filters=[LaneInstanceFilter()],
        interceptors=[add_lane_headers],
    ) as client:
        for lane in (None, "dev", "another-dev"):
            with lane_scope(lane):
                response = await client.get("orders", "/who")
            print(lane, response.text)


asyncio.run(main())
