"""One configuration value as an attribute that is always up to date."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast, overload
from weakref import WeakSet

from pydantic import TypeAdapter, ValidationError

from microservice_kit.current import current_services, follow_modules, open_services
from microservice_kit.errors import InvalidConfigError, NotEnabledError

from .documents import DocumentId
from .placeholders import MISSING, lookup

if TYPE_CHECKING:
    from microservice_kit.services import AnyServices

__all__ = ("ConfigCenterValue", "NacosValue", "declared_documents")

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

REQUIRED: Final = object()
UNKNOWN: Final = object()

_values: WeakSet[ConfigCenterValue[object]] = WeakSet()


class ConfigCenterValue(property, Generic[ValueT]):
    """A class attribute that reads one key of one document, live.

    `pool_size = ConfigCenterValue("app.yaml", "db.pool", default=5, type=int)`: each instance's
    `pool_size` is the value of now, in the module open in this context, else in the only one that
    is open. Reading costs about as much as any property. A value that does not fit `type` is
    logged, and the last good one stays.

    Args:
        data_id: the document; it need not be one of the module's.
        key: with dots, such as `db.pool`.
        default: while there is no such key, or no module is open. Without one that is an error.
        type: what the value is validated as; by default any.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None, /) -> ValueT: ...
        def __get__(self, instance: object, owner: type | None = None, /) -> object: ...

    @overload
    def __init__(
        self, data_id: str, key: str, *, default: ValueT, type: type[ValueT] | None = None
    ) -> None: ...
    @overload
    def __init__(self, data_id: str, key: str, *, type: type[ValueT]) -> None: ...
    @overload
    def __init__(self: ConfigCenterValue[object], data_id: str, key: str) -> None: ...
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        default: object = REQUIRED,
        type: type[ValueT] | None = None,  # noqa: A002 - part of the published name
    ) -> None:
        self._declare(DocumentId(data_id), key, default, type)

    def _declare(
        self,
        where: DocumentId,
        key: str,
        default: object,
        type: type[ValueT] | None,  # noqa: A002
    ) -> None:
        self.where = where
        self.key = key
        self._default = default
        self._adapter = None if type is None else TypeAdapter(type)
        self._last_good: object = UNKNOWN
        read, self._put = _cell(self._found_here)
        super().__init__(read, doc=f"{where.data_id} {key}")
        _values.add(cast("ConfigCenterValue[object]", self))
        self.refresh()

    def refresh(self) -> None:
        """Read the key anew: a document changed, or a module was opened or closed."""
        modules = open_services()
        value: object = UNKNOWN
        if len(modules) == 1:
            try:
                value = self._found(modules[0])
            except InvalidConfigError:
                value = UNKNOWN  # told to who reads it
        self._put(value)

    def _found_here(self) -> object:
        """The value where it is not the same for everyone."""
        try:
            services = current_services()
        except NotEnabledError:
            if self._default is REQUIRED:
                raise
            return self._default
        return self._found(services)

    def _found(self, services: AnyServices) -> object:
        config = services.config
        config.include(self.where)
        found = lookup(config.document(self.where), self.key)
        if found is MISSING:
            if self._default is REQUIRED:
                problem = f"it has no key {self.key!r} and the attribute no default"
                raise InvalidConfigError(self.where.data_id, problem)
            return self._default
        return found if self._adapter is None else self._checked(self._adapter, found)

    def _checked(self, adapter: TypeAdapter[ValueT], found: object) -> object:
        try:
            self._last_good = adapter.validate_python(found)
        except ValidationError as error:
            problem = (
                f"{self.key}: {error.errors(include_url=False, include_input=False)[0]['msg']}"
            )
            if self._last_good is UNKNOWN:
                raise InvalidConfigError(self.where.data_id, problem) from None
            logger.error("configuration %r: %s; the last value stays", self.where.data_id, problem)  # noqa: TRY400
        return self._last_good


class NacosValue(ConfigCenterValue[ValueT]):
    """A `ConfigCenterValue` of any group and namespace; empty means the module's own."""

    @overload
    def __init__(
        self,
        data_id: str,
        key: str,
        *,
        default: ValueT,
        group: str = "",
        namespace: str = "",
        type: type[ValueT] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self, data_id: str, key: str, *, type: type[ValueT], group: str = "", namespace: str = ""
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
        default: object = REQUIRED,
        type: type[ValueT] | None = None,  # noqa: A002 - part of the published name
    ) -> None:
        self._declare(DocumentId(data_id, group, namespace), key, default, type)


def declared_documents() -> tuple[DocumentId, ...]:
    """The documents that the values declared so far read."""
    return tuple({value.where for value in _values})


def _cell(
    find: Callable[[], object],
) -> tuple[Callable[[object], object], Callable[[object], None]]:
    """A getter for a property, and what sets the value it returns; `UNKNOWN` makes it look."""
    value: object = UNKNOWN

    def read(_instance: object) -> object:
        return value if value is not UNKNOWN else find()

    def put(new: object) -> None:
        nonlocal value
        value = new

    return read, put


def refresh_values() -> None:
    """Read all of them anew."""
    for value in tuple(_values):
        value.refresh()


follow_modules(refresh_values)
