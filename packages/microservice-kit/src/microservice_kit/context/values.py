"""One configuration value as an attribute that is always up to date."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, overload
from weakref import WeakSet

from pydantic import BaseModel, TypeAdapter, ValidationError

from microservice_kit.config.data import MISSING, look_up
from microservice_kit.config.documents import DocumentId
from microservice_kit.errors import InvalidConfigError, NotEnabledError
from microservice_kit.open_module import OpenModule

from .current import current_module, open_modules, subscribe_to_modules

__all__ = ("ConfigCenterValue", "NacosValue", "declared_documents", "refresh_values")

logger = logging.getLogger(__name__)

ValueT_co = TypeVar("ValueT_co", covariant=True)

_REQUIRED: Final = object()
_UNKNOWN: Final = object()

_values: WeakSet[ConfigCenterValue[object]] = WeakSet()


class ConfigCenterValue(property, Generic[ValueT_co]):
    """A class attribute that reads one key of one document, live.

    `pool_size = ConfigCenterValue("app.yaml", "db.pool", default=5, type=int)`: each instance's
    `pool_size` is the present value, from the module of this context (see `current_module`). Reading costs about as much as any property. A value that does not fit
    `type` is logged, and the last valid one is kept.

    Args:
        data_id: the document; it need not be one of the module's.
        key: with dots, such as `db.pool`.
        default: the value while there is no such key, or no module in this context. Without a
            default that is an error.
        type: what the value is validated as; by default it is not validated.
    """

    # A subclass of property, whose `__get__` is C code: one read is the call of one closure. A
    # descriptor with a `__get__` in Python costs that call as well, at each read.

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None, /) -> ValueT_co: ...
        def __get__(self, instance: object, owner: type | None = None, /) -> object: ...

    @overload
    def __init__(
        self, data_id: str, key: str, *, default: ValueT_co, type: type[ValueT_co] | None = None
    ) -> None: ...
    @overload
    def __init__(self, data_id: str, key: str, *, type: type[ValueT_co]) -> None: ...
    @overload
    def __init__(self: ConfigCenterValue[object], data_id: str, key: str) -> None: ...
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        default: object = _REQUIRED,
        type: type[ValueT_co] | None = None,  # noqa: A002 - part of the published name
    ) -> None:
        self._declare(DocumentId(data_id), key, default, type)

    def _declare(
        self,
        document_id: DocumentId,
        key: str,
        default: object,
        type: type[ValueT_co] | None,  # noqa: A002 - as in the constructor
    ) -> None:
        self.document_id = document_id
        self.key = key
        self._default = default
        self._adapter = None if type is None else TypeAdapter(type)
        self._last_valid: object = _UNKNOWN
        read, self._store = _create_cell(self._read_current)
        super().__init__(read, doc=f"{document_id.data_id} {key}")
        _values.add(self)
        subscribe_to_modules(refresh_values)
        self.refresh()

    def refresh(self) -> None:
        """Read the key again: a document changed, or a module was opened or closed."""
        modules = open_modules()
        value: object = _UNKNOWN
        # With several modules open the value depends on who reads it: looked up at each read.
        if len(modules) == 1:
            try:
                value = self._read_from(modules[0])
            except InvalidConfigError:
                value = _UNKNOWN  # looked up, and raised, at each read
        self._store(value)

    def _read_current(self) -> object:
        """Read from this context's module; the default while none is open."""
        try:
            module = current_module()
        except NotEnabledError:
            if self._default is _REQUIRED:
                raise
            return self._default
        return self._read_from(module)

    def _read_from(self, module: OpenModule[BaseModel]) -> object:
        config = module.config
        config.include(self.document_id)
        value = look_up(config.document(self.document_id), self.key)
        if value is MISSING:
            if self._default is _REQUIRED:
                problem = f"it has no key {self.key!r} and the attribute no default"
                raise InvalidConfigError(self.document_id.data_id, problem)
            return self._default
        return value if self._adapter is None else self._validate(self._adapter, value)

    def _validate(self, adapter: TypeAdapter[ValueT_co], value: object) -> object:
        try:
            self._last_valid = adapter.validate_python(value)
        except ValidationError as error:
            problem = (
                f"{self.key}: {error.errors(include_url=False, include_input=False)[0]['msg']}"
            )
            if self._last_valid is _UNKNOWN:
                raise InvalidConfigError(self.document_id.data_id, problem) from None
            logger.error(  # noqa: TRY400 - the reason is in the message
                "configuration %r: %s; keeping the last valid value",
                self.document_id.data_id,
                problem,
            )
        return self._last_valid


class NacosValue(ConfigCenterValue[ValueT_co]):
    """A `ConfigCenterValue` of any group and namespace; empty means the module's own."""

    @overload
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        default: ValueT_co,
        group: str = "",
        namespace: str = "",
        type: type[ValueT_co] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        type: type[ValueT_co],
        group: str = "",
        namespace: str = "",
    ) -> None: ...
    @overload
    def __init__(
        self: NacosValue[object], data_id: str, key: str, *, group: str = "", namespace: str = ""
    ) -> None: ...
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        group: str = "",
        namespace: str = "",
        default: object = _REQUIRED,
        type: type[ValueT_co] | None = None,  # noqa: A002 - part of the published name
    ) -> None:
        self._declare(DocumentId(data_id, group, namespace), key, default, type)


def declared_documents() -> tuple[DocumentId, ...]:
    """Return the documents that the values declared so far read."""
    return tuple({value.document_id for value in _values})


def _create_cell(
    look_up_value: Callable[[], object],
) -> tuple[Callable[[object], object], Callable[[object], None]]:
    """Create a getter for a property, and the function that stores the value it returns.

    Args:
        look_up_value: called at each read while `_UNKNOWN` is stored.
    """
    value: object = _UNKNOWN

    def read(_instance: object) -> object:
        return value if value is not _UNKNOWN else look_up_value()

    def store(new_value: object) -> None:
        nonlocal value
        value = new_value

    return read, store


def refresh_values() -> None:
    """Read every declared value again."""
    for value in tuple(_values):
        value.refresh()
