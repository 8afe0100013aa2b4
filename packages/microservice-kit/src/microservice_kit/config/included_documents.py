"""Documents that are read besides those that make the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from pydantic import BaseModel

from microservice_core import ConfigCenter, ConfigDeleted, ConfigResult, Unsubscribe
from microservice_kit.errors import InvalidConfigError

from .documents import DocumentId, DocumentReader
from .layers import ConfigLayers
from .parsing import Data

__all__ = ("IncludedDocuments",)

logger = logging.getLogger(__name__)

MOST = 256


class IncludedDocuments:
    """Each is followed from the first time it is asked for; an invalid state changes nothing.

    Args:
        around: the merged configuration, where placeholders may look too.
        on_change: called when one of them says something new.

    Attributes:
        problems: what is wrong with the newest state of a document, where something is.
    """

    def __init__(
        self,
        center: ConfigCenter | None,
        reader: DocumentReader,
        layers: ConfigLayers[BaseModel],
        *,
        around: Callable[[], Mapping[str, object]],
        on_change: Callable[[], None],
    ) -> None:
        self._center = center
        self._reader = reader
        self._layers = layers
        self._around = around
        self._on_change = on_change
        self._parsed: dict[DocumentId, Data] = {}
        self._stops: list[Unsubscribe] = []
        self.problems: dict[DocumentId, InvalidConfigError] = {}

    def __contains__(self, where: DocumentId) -> bool:
        return where in self._parsed

    def __getitem__(self, where: DocumentId) -> Data:
        return self._parsed[where]

    def follow(self, where: DocumentId) -> None:
        """Follow it, unless it is followed already or there is no center.

        Raises:
            InvalidConfigError: too many are followed.
        """
        if self._center is None or where in self._parsed:
            return
        if len(self._parsed) >= MOST:
            raise InvalidConfigError(where.data_id, f"{MOST} others are followed already")
        self._parsed[where] = {}
        stop = self._center.watch_config(where.data_id, partial(self._changed, where), *where[1:])
        self._stops.append(stop)

    async def load(self, where: DocumentId) -> None:
        """Read it now, and follow it.

        Raises:
            ConfigCenterError: the center cannot be read.
        """
        if self._center is not None and where not in self._parsed:
            state = await self._reader.read(where)
            self.follow(where)
            self._changed(where, state)

    def close(self) -> None:
        """Follow none any more; what they said last can still be read."""
        for stop in self._stops:
            stop()
        self._stops.clear()

    def _changed(self, where: DocumentId, state: ConfigResult | ConfigDeleted) -> None:
        self._reader.missed.discard(where)
        try:
            parsed = self._layers.parsed(state)
            self._layers.resolved(where.data_id, parsed, self._around())
        except InvalidConfigError as error:
            self.problems[where] = error
            logger.error("%s; what it said last stays", error)  # noqa: TRY400
            return
        self.problems.pop(where, None)
        if parsed != self._parsed[where]:
            self._parsed[where] = parsed
            self._on_change()
