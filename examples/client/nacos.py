"""The same to the instances in Nacos, which NACOS_SERVER_ADDR and its siblings locate."""

import asyncio

from microservice_client import AsyncServiceClient
from microservice_core import open_service_registry


async def main() -> None:
    async with AsyncServiceClient(open_service_registry("nacos")) as client:
        response = await client.get("orders", "/who")
        print(response.status_code, response.text)


asyncio.run(main())
