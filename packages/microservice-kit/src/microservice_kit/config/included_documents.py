"""Documents that are read besides those that are merged into the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from pydantic import BaseModel

from microservice_core import ConfigCenter, Unsubscribe
from microservice_kit.errors import InvalidConfigError

from .data import Data
from .documents import DocumentId, DocumentReader, DocumentState
from .layers import ConfigLayers

__all__ = ("IncludedDocuments",)

logger = logging.getLogger(__name__)

_MAX_DOCUMENTS = 256


class IncludedDocuments:
    """Watches each document from its first use; an invalid state keeps the last valid one.

    Args:
        context: the merged configuration, where placeholders are looked up as well.
        listener: called when one of the documents changed.

    Attributes:
        problems: for each document whose newest state was refused, why.
    """

    def __init__(
        self,
        center: ConfigCenter,
        reader: DocumentReader,
        layers: ConfigLayers[BaseModel],
        *,
        context: Callable[[], Mapping[str, object]],
        listener: Callable[[], None],
    ) -> None:
        self._center = center
        self._reader = reader
        self._layers = layers
        self._context = context
        self._listener = listener
        self._parsed: dict[DocumentId, Data] = {}
        self._unsubscribes: list[Unsubscribe] = []
        self.problems: dict[DocumentId, InvalidConfigError] = {}

    def get(self, document_id: DocumentId) -> Data:
        """Return the last valid content of a document; empty when it was not read yet."""
        return self._parsed.get(document_id, {})

    def watch(self, document_id: DocumentId) -> None:
        """Watch a document, unless it is watched already.

        Raises:
            InvalidConfigError: too many documents are watched.
        """
        if document_id in self._parsed:
            return
        if len(self._parsed) >= _MAX_DOCUMENTS:
            problem = f"{_MAX_DOCUMENTS} other documents are watched already"
            raise InvalidConfigError(document_id.data_id, problem)
        self._parsed[document_id] = {}
        listener = partial(self._apply, document_id)
        unsubscribe = self._center.watch_config(document_id.data_id, listener, *document_id[1:])
        self._unsubscribes.append(unsubscribe)

    async def load(self, document_id: DocumentId) -> None:
        """Read a document now, and watch it.

        Raises:
            ConfigCenterError: the center cannot be read.
        """
        if document_id not in self._parsed:
            state = await self._reader.read(document_id)
            self.watch(document_id)
            self._apply(document_id, state)

    def close(self) -> None:
        """End every watch; the last contents can still be read."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        self._unsubscribes.clear()

    def _apply(self, document_id: DocumentId, state: DocumentState) -> None:
        self._reader.unread.discard(document_id)
        try:
            parsed = self._layers.parse(state)
            self._layers.resolve(document_id.data_id, parsed, self._context())
        except InvalidConfigError as error:
            self.problems[document_id] = error
            logger.error("%s; keeping the last valid content", error)  # noqa: TRY400
            return
        self.problems.pop(document_id, None)
        if parsed != self._parsed[document_id]:
            self._parsed[document_id] = parsed
            self._listener()
