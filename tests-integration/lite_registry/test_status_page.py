"""The status page in a real browser: what it shows, live, on a phone, in the dark."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lite_registry import LiteRegistryServer, StaticRoutes
from lite_registry.http_client import HttpClient
from lite_registry.routes import parse_routes

ROUTES = {
    "services": {
        "orders": {"port": 8000, "lanes": ["dev"]},
        "a-service-with-quite-a-long-name-for-a-phone": {"port": 8000, "lanes": ["test"]},
    }
}


class Browser:
    """Chromium without a window, told what to do over a pipe (Chrome DevTools Protocol)."""

    def __init__(self, program: str, folder: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        options = [program, "--headless=new", "--no-sandbox", "--disable-gpu"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-pipe"]
        options.append(f"--user-data-dir={folder}")
        ends = str(to_browser[0]), str(from_browser[1])
        shell = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *ends, *options, "about:blank"],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self.write = os.fdopen(to_browser[1], "wb", buffering=0)
        self.read = os.fdopen(from_browser[0], "rb", buffering=0)
        self.numbers = itertools.count(1)
        self.session = ""
        self.rest = b""

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        return await asyncio.wait_for(asyncio.to_thread(self._answer, number), 30)

    def _answer(self, number: int) -> dict[str, Any]:
        while True:
            while b"\0" not in self.rest:
                self.rest += self.read.read(65_536) or b'{"id":-1}\0'
            line, _, self.rest = self.rest.partition(b"\0")
            message = json.loads(line)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    async def open(self, url: str) -> None:
        target = await self.tell("Target.createTarget", url=url)
        attached = await self.tell(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self.session = attached["sessionId"]

    async def value(self, expression: str) -> Any:
        answer = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def shows(self, *texts: str) -> str:
        page = ""
        for _ in range(200):
            page = str(await self.value("document.body.innerText"))
            if all(text in page for text in texts):
                return page
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within 10 s: {texts} in {page!r}")


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    browser = Browser(program, tmp_path / "profile")
    yield browser
    browser.process.kill()
    browser.process.wait()
    browser.write.close()
    browser.read.close()


async def test_the_page_follows_what_happens_and_fits_a_phone_in_the_dark(
    browser: Browser,
) -> None:
    async with LiteRegistryServer(port=0, source=StaticRoutes(parse_routes(ROUTES))) as server:
        client = HttpClient(server.url)
        await browser.open(server.url + "/")
        await browser.shows("up to date", "orders-dev:8000", "No instances.", "Nothing changed.")
        hostile = {"ip": "10.0.0.7", "port": 8000, "metadata": {"lane": "<img/src=x>"}}
        await client.ask("PUT", "/v1/instances/orders/%3Cb%3Ex", document=hostile)
        await browser.shows("<b>x [<img/src=x>]", "up, weight 1", "registered")
        assert await browser.value("document.querySelectorAll('#instances b, img').length") == 0
        await client.ask("DELETE", "/v1/instances/orders/%3Cb%3Ex")
        await browser.shows("No instances.", "gone")

        await browser.tell(
            "Emulation.setDeviceMetricsOverride",
            width=360,
            height=740,
            deviceScaleFactor=2,
            mobile=True,
        )
        assert await browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        paper = "getComputedStyle(document.body).backgroundColor"
        light = await browser.value(paper)
        scheme = {"name": "prefers-color-scheme", "value": "dark"}
        await browser.tell("Emulation.setEmulatedMedia", features=[scheme])
        assert await browser.value(paper) != light
        if folder := os.environ.get("SCREENSHOTS"):
            import base64

            shot = await browser.tell("Page.captureScreenshot", format="png")
            picture = Path(folder) / "status.png"
            picture.write_bytes(base64.b64decode(shot["data"]))
    await browser.shows("connection to the registry lost")
