"""Where the demo's services register and read configuration: embedded, or a real Nacos 3."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from microservice_core import ConfigPublisher, MicroserviceError, open_config_center

from .processes import DemoError, Processes, encode_json

__all__ = ("Backend", "Embedded", "Nacos")

DOCUMENT = "orders.yaml"


class Backend(ABC):
    """Starts the servers, configures the services for them, changes the document."""

    title: str
    leave_seconds: float  # until callers have noticed that an instance left

    @abstractmethod
    async def open(self, processes: Processes, stack: AsyncExitStack) -> None:
        """Start what is needed."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the services."""

    @abstractmethod
    async def write(self, document: str) -> None:
        """Change the document all `orders` instances read."""


class Embedded(Backend):
    """lite-registry as a process of the demo, and a folder of files as configuration center."""

    title = "embedded: lite-registry and a folder of documents"
    leave_seconds = 1.0

    def __init__(self, folder: Path, port: int) -> None:
        self._documents = folder / "config"
        self._port = port
        self._url = f"http://127.0.0.1:{port}"

    async def open(self, processes: Processes, stack: AsyncExitStack) -> None:
        arguments = ["-m", "lite_registry", "serve", "--host", "127.0.0.1"]
        registry = await processes.start(
            "lite-registry", self._port, [*arguments, "--port", str(self._port)], {}
        )
        await processes.wait_until_ready(registry, "/healthz")

    def environment(self) -> Mapping[str, str]:
        return {
            "MICROSERVICE_SERVICE_REGISTRY": "lite",
            "MICROSERVICE_SERVICE_REGISTRY_SETTINGS": encode_json({"url": self._url}),
            "MICROSERVICE_CONFIG_CENTER": "file",
            "MICROSERVICE_CONFIG_CENTER_SETTINGS": encode_json(
                {"folder": str(self._documents), "poll_seconds": 0.5}
            ),
        }

    async def write(self, document: str) -> None:
        self._documents.mkdir(exist_ok=True)
        draft = self._documents / f"{DOCUMENT}.draft"
        draft.write_text(document, encoding="utf-8")
        draft.replace(self._documents / DOCUMENT)


class Nacos(Backend):
    """A real Nacos 3; user and password from `NACOS_USERNAME` and `NACOS_PASSWORD`."""

    leave_seconds = 2.5

    def __init__(self, address: str) -> None:
        self.title = f"Nacos at {address}"
        self._group = f"DEMO_{os.getpid()}"
        self._settings = {"server_addr": address, "config_poll_seconds": 1.0}
        self._center: ConfigPublisher | None = None

    async def open(self, processes: Processes, stack: AsyncExitStack) -> None:
        try:
            center = await stack.enter_async_context(open_config_center("nacos", self._settings))
        except MicroserviceError as error:
            raise DemoError(str(error)) from error
        if not isinstance(center, ConfigPublisher):
            raise DemoError("the nacos provider cannot publish; upgrade microservice-nacos")
        self._center = center
        stack.push_async_callback(self._remove_document, center)

    async def _remove_document(self, center: ConfigPublisher) -> None:
        with contextlib.suppress(MicroserviceError):  # a Nacos that is gone needs no clean-up
            await center.delete_config(DOCUMENT, self._group)

    def environment(self) -> Mapping[str, str]:
        settings = encode_json(self._settings)
        return {
            "MICROSERVICE_SERVICE_REGISTRY": "nacos",
            "MICROSERVICE_SERVICE_REGISTRY_SETTINGS": encode_json(
                {"server_addr": self._settings["server_addr"], "instance_poll_seconds": 1.0}
            ),
            "MICROSERVICE_CONFIG_CENTER": "nacos",
            "MICROSERVICE_CONFIG_CENTER_SETTINGS": settings,
            "MICROSERVICE_GROUP_NAME": self._group,
        }

    async def write(self, document: str) -> None:
        if self._center is None:
            raise DemoError("open the backend before writing to it")
        try:
            await self._center.publish_config(DOCUMENT, document, self._group)
        except MicroserviceError as error:
            raise DemoError(str(error)) from error
