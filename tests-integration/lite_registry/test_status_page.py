"""The status page in a real browser: what it shows, live, on a phone, in the dark."""

from chromium import Browser

from lite_registry import LiteRegistryServer, StaticRoutes
from lite_registry.http_client import HttpClient
from lite_registry.routes import parse_routes

ROUTES = {
    "services": {
        "orders": {"port": 8000, "lanes": ["dev"]},
        "a-service-with-quite-a-long-name-for-a-phone": {"port": 8000, "lanes": ["test"]},
    }
}


async def test_the_page_follows_what_happens_and_fits_a_phone_in_the_dark(
    browser: Browser,
) -> None:
    async with LiteRegistryServer(port=0, source=StaticRoutes(parse_routes(ROUTES))) as server:
        client = HttpClient(server.url)
        await browser.open(server.url + "/")
        await browser.shows("up to date", "orders-dev:8000", "No instances.", "Nothing changed.")
        hostile = {"ip": "10.0.0.7", "port": 8000, "metadata": {"lane": "<img/src=x>"}}
        await client.request("PUT", "/v1/instances/orders/%3Cb%3Ex", document=hostile)
        await browser.shows("<b>x [<img/src=x>]", "up, weight 1", "registered")
        assert await browser.value("document.querySelectorAll('#instances b, img').length") == 0
        await client.request("DELETE", "/v1/instances/orders/%3Cb%3Ex")
        await browser.shows("No instances.", "gone")

        await browser.size(360, 740, mobile=True)
        assert await browser.value("document.documentElement.scrollWidth <= 360")
        paper = "getComputedStyle(document.body).backgroundColor"
        light = await browser.value(paper)
        await browser.scheme("dark")
        assert await browser.value(paper) != light
        await browser.picture("lite-registry")
    await browser.shows("connection to the registry lost")
