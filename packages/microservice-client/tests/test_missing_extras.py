import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    for name in ("aiohttp", "h2"):
        sys.modules[name] = None
    from microservice_client import AsyncServiceClient, ServicePolicy
    from microservice_client.http.connections import choose_pool_factory, make_httpx_pool

    assert choose_pool_factory("auto") is make_httpx_pool
    addresses = {"orders": ["http://127.0.0.1:9"]}

    async def main():
        try:
            await AsyncServiceClient.from_addresses(addresses, connection_layer="aiohttp").__aenter__()
        except ImportError as error:
            print(error)
        policy = ServicePolicy(http2=True)
        async with AsyncServiceClient.from_addresses(addresses, default_policy=policy) as client:
            try:
                await client.get("orders", "/")
            except ImportError as error:
                print(error)

    asyncio.run(main())
    """
)


LAYER = "connection_layer='aiohttp'"
FAST = '"microservice-client[fast]"'


def test_a_missing_extra_is_named_with_its_installation() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        f"{LAYER} needs an optional package: pip install {FAST}",
        'http2=True needs an optional package: pip install "microservice-client[http2]"',
    ]
