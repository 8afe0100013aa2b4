"""The one container of a module, made when it is first asked for; importing it takes time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .container import MicroserviceContainer

__all__ = ("LazyContainer", "PartName")

PartName = Literal["config_center", "service_registry", "service_client", "config", "transport"]


class LazyContainer:
    """The container of a module, before it opens, while it is open, and afterwards.

    Attributes:
        readers: for each part that is open, a function that returns it.
        made: whether it was ever asked for; without it nothing can be overridden.
    """

    def __init__(self) -> None:
        self._container: MicroserviceContainer | None = None
        self.readers: dict[str, Callable[[], object]] = {}
        self.made = False

    def get(self) -> MicroserviceContainer:
        """Return the container, the same at each call."""
        if self._container is None:
            from .container import build_container

            self._container = build_container(self._read)
            self.made = True
        return self._container

    def find_override(self, name: PartName) -> object:
        """Return what a part was overridden with; None when it was not."""
        if self._container is None:
            return None
        provider = self._container.providers[name]
        overrides: Sequence[object] = provider.overridden
        return provider() if overrides else None

    def _read(self, name: str) -> object:
        reader = self.readers.get(name)
        return reader() if reader is not None else None
