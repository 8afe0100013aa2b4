"""Chromium without a window, told what to do over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ("PROGRAM", "Browser")

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab.

    Attributes:
        problems: uncaught errors of the page, and what its Content-Security-Policy stopped.
    """

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
        self.problems: list[str] = []

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.write.close()
        self.read.close()

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
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(message["params"]["exceptionDetails"]))
            elif message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["source"] == "security":
                    self.problems.append(str(entry))

    async def open(self, url: str) -> None:
        target = await self.tell("Target.createTarget", url="about:blank")
        attached = await self.tell(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self.session = attached["sessionId"]
        await self.tell("Runtime.enable")
        await self.tell("Log.enable")
        await self.tell("Page.enable")
        await self.tell("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        answer = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def shows(self, *texts: str, within: str = "body") -> str:
        """The text of an element once all of these are in it."""
        page = ""
        for _ in range(200):
            page = str(await self.value(f"document.querySelector({within!r})?.innerText"))
            if all(text in page for text in texts):
                return page
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within 10 s: {texts} in {page!r}")

    async def until(self, expression: str) -> None:
        """Wait until it is true."""
        for _ in range(200):
            if await self.value(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not true within 10 s: {expression}")

    async def click(self, text: str, *, within: str = "body", number: int = 0) -> None:
        """Press the mouse on a button, once it is to be seen and can be pressed."""
        found = (
            f"[...document.querySelectorAll({within + ' button'!r})].filter(one => "
            f"one.textContent.trim() === {text!r} && one.checkVisibility() && !one.disabled)[{number}]"
        )
        await self.until(f"Boolean({found})")
        place = await self.value(
            f"(() => {{ const one = {found}; one.scrollIntoView({{block: 'center'}});"
            " const {x, y, width, height} = one.getBoundingClientRect();"
            " return [x + width / 2, y + height / 2]; })()"
        )
        point = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.tell("Input.dispatchMouseEvent", type=kind, **point)

    async def write_in(self, selector: str, text: str) -> None:
        """Put the cursor into a field, and text in the place of what is there."""
        await self.value(
            f"(() => {{ const one = document.querySelector({selector!r});"
            " one.focus(); one.select(); })()"
        )
        await self.tell("Input.insertText", text=text)

    async def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        scale = 2 if mobile else 1
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        await self.tell("Emulation.setDeviceMetricsOverride", **screen)

    async def scheme(self, name: str) -> None:
        """`light` or `dark`."""
        scheme = {"name": "prefers-color-scheme", "value": name}
        await self.tell("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, name: str) -> None:
        """Into the folder that SCREENSHOTS names, where it does."""
        if folder := os.environ.get("SCREENSHOTS"):
            shot = await self.tell(
                "Page.captureScreenshot", format="png", captureBeyondViewport=True
            )
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
