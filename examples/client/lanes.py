"""The same in a lane: instances of `dev` where there are any, the others where there are none."""

import asyncio

import httpx

from lane_router import LaneInstanceFilter, lane_headers, lane_scope
from microservice_client import AsyncServiceClient
from microservice_core import open_service_registry


def hand_on(request: httpx.Request) -> None:
    request.headers.update(lane_headers())


async def main() -> None:
    async with AsyncServiceClient(
        open_service_registry("nacos"), filters=[LaneInstanceFilter()], interceptors=[hand_on]
    ) as client:
        for lane in (None, "dev", "dev-of-somebody-else"):
            with lane_scope(lane):
                response = await client.get("orders", "/who")
            print(lane, response.text)


asyncio.run(main())
