"""What the commands print of a registry, and what of it a terminal would obey."""

from lite_registry import LiteRegistryServer
from lite_registry.http_client import HttpClient
from lite_registry.show import fetch_lines

EVIL = "a\x1b]0;title\x07\r\n\u009b2J\u202eb"


async def test_what_strangers_registered_cannot_control_the_terminal() -> None:
    document = {"ip": "10.0.0.7", "port": 1, "metadata": {"note": EVIL, EVIL: "ol\u00e9"}}
    async with LiteRegistryServer(port=0) as server:
        await HttpClient(server.url).request("PUT", "/v1/instances/orders/a", document=document)
        lines = await fetch_lines(server.url, "instances", "orders", as_json=False)
        as_json = await fetch_lines(server.url, "instances", "orders", as_json=True)
    assert len(lines) == 2
    assert all(line.isprintable() for line in [*lines, *as_json])
    assert r"note=a\x1b]0;title\x07\r\n\x9b2J\u202eb" in lines[1]
    assert "ol\u00e9" in lines[1]
