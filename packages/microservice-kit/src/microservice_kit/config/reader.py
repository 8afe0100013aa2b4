"""Reading a configuration: one key, one part as a model, one document."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Generic, TypeVar, cast, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from microservice_core import ConfigResult
from microservice_kit.errors import InvalidConfigError

from .data import MISSING, Data, look_up
from .documents import DocumentId
from .environment import convert_validation_error
from .included_documents import IncludedDocuments
from .layers import ConfigLayers
from .versions import ConfigVersion

__all__ = ("ConfigReader",)

logger = logging.getLogger(__name__)

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)
PartT = TypeVar("PartT", bound=BaseModel)
ValueT = TypeVar("ValueT")

_REQUIRED: Final = object()


class ConfigReader(Generic[ModelT_co]):
    """Reads the newest version; safe from any thread.

    `ConfigService` sets all of it.

    Attributes:
        current: the validated model; replaced as a whole, so that one read is consistent.
        version: the version it belongs to.
    """

    current: ModelT_co
    version: ConfigVersion[ModelT_co]
    _layers: ConfigLayers[ModelT_co]
    # Where a document is that names no group or namespace.
    _group_name: str
    _namespace_id: str
    # The merged documents, in rising precedence.
    _document_ids: tuple[DocumentId, ...]
    # The documents that are read besides them; None without a configuration center.
    _included: IncludedDocuments | None
    _parts: dict[tuple[type[BaseModel], str], tuple[int, BaseModel]]

    @overload
    def get(self, key: str) -> object: ...
    @overload
    def get(self, key: str, default: ValueT) -> ValueT: ...
    def get(self, key: str, default: object = _REQUIRED) -> object:
        """Return the value at a dotted key.

        The default gives the type: `get("port", 0)` returns a whole number, converts `"80"`, and
        refuses `"http"`. Without a default, and with None, the value is returned as it is, without
        validation.

        Raises:
            InvalidConfigError: there is no such key and no default, or the value is not of the
                default's type.
        """
        value = look_up(self.version.data, key)
        if value is MISSING:
            if default is _REQUIRED:
                raise InvalidConfigError(self._layers.name, f"there is no key {key!r}")
            return default
        if default is _REQUIRED or default is None:
            return value
        try:
            return TypeAdapter(type(default)).validate_python(value)
        except ValidationError as error:
            raise convert_validation_error(f"{self._layers.name} {key}", error) from None

    def text(self, data_id: str) -> str:
        """Return a merged document as text, decrypted if the whole of it is encrypted.

        Raises:
            InvalidConfigError: there is no such document.
        """
        for state in self.version.documents:
            if isinstance(state, ConfigResult) and state.data_id == data_id:
                return self._layers.decrypt_text(state)
        raise InvalidConfigError(data_id, "it does not exist or is none of the documents")

    def properties(self, model: type[PartT], prefix: str = "") -> PartT:
        """Return a part of the newest version as another model.

        When a later version does not fit the model, that is logged and the last valid part is
        returned.

        Args:
            prefix: the dotted key of the part; by default that of `config_properties`.

        Raises:
            InvalidConfigError: the part does not fit the model, and never did.
        """
        prefix = prefix or getattr(model, "__config_prefix__", "")
        version_id, part = self._parts.get((model, prefix), (0, None))
        if part is None or version_id != self.version.id:
            part = self._validate_part(model, prefix, part)
            self._parts[model, prefix] = (self.version.id, part)
        return cast(PartT, part)

    def _validate_part(
        self, model: type[BaseModel], prefix: str, last_valid: BaseModel | None
    ) -> BaseModel:
        data = look_up(self.version.data, prefix) if prefix else self.version.data
        try:
            return model.model_validate({} if data is MISSING else data)
        except ValidationError as error:
            problem = convert_validation_error(prefix or self._layers.name, error)
            if last_valid is None:
                raise problem from None
            logger.error("%s; keeping the last valid %s", problem, model.__name__)  # noqa: TRY400
            return last_valid

    def document(self, document_id: DocumentId) -> Mapping[str, object]:
        """Return the data of one document alone; empty when it does not exist.

        An empty group or namespace is the one of the configuration.

        Raises:
            InvalidConfigError: it cannot be decrypted, or a placeholder not be resolved.
        """
        document_id = self._qualify(document_id)
        parsed: Data
        if document_id in self._document_ids:
            state = self.version.documents[self._document_ids.index(document_id)]
            parsed = self._layers.parse(state)
        else:
            parsed = self._included.get(document_id) if self._included is not None else {}
        return self._layers.resolve(document_id.data_id, parsed, self.version.data)

    def _qualify(self, document_id: DocumentId) -> DocumentId:
        return DocumentId(
            document_id.data_id,
            document_id.group_name or self._group_name,
            document_id.namespace_id or self._namespace_id,
        )
