"""The configuration center as a source of an existing pydantic-settings class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from microservice_kit.current import current_services
from microservice_kit.errors import NotEnabledError

from .documents import DocumentId
from .placeholders import MISSING, lookup

__all__ = ("ConfigCenterSettingsSource", "config_center_source")

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class ConfigCenterSettingsSource(PydanticBaseSettingsSource):
    """What the open module's configuration says of the settings' fields; nothing while none is open.

    Args:
        data_id: read this document only; empty reads the merged configuration.
        prefix: the dotted key under which the fields lie.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], *, data_id: str = "", prefix: str = ""
    ) -> None:
        super().__init__(settings_cls)
        self._data_id = data_id
        self._prefix = prefix

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """The value of one field, as pydantic-settings asks for it."""
        key = field.alias or field_name
        return self._data().get(key), key, False

    def __call__(self) -> dict[str, object]:
        """The values of all fields that the configuration knows."""
        data = self._data()
        names = {
            name
            for field_name, info in self.settings_cls.model_fields.items()
            for name in (field_name, info.alias)
            if name
        }
        return {key: value for key, value in data.items() if key in names}

    def _data(self) -> Mapping[str, object]:
        try:
            config = current_services().config
        except NotEnabledError:
            return {}
        if self._data_id:
            where = DocumentId(self._data_id)
            config.include(where)
            data = config.document(where)
        else:
            data = config.version.data
        found = lookup(data, self._prefix) if self._prefix else data
        return found if found is not MISSING and isinstance(found, Mapping) else {}


def config_center_source(
    data_id: str = "", *, prefix: str = ""
) -> Callable[[type[SettingsT]], type[SettingsT]]:
    """The one line that gives an existing settings class the configuration center.

    `@config_center_source("app.yaml", prefix="db")` on the class: what is handed to the constructor
    wins, then the center, then the sources it had before. While no module is open it is as before.

    Args:
        data_id, prefix: see `ConfigCenterSettingsSource`.
    """

    def mark(settings: type[SettingsT]) -> type[SettingsT]:
        before = settings.settings_customise_sources

        def settings_customise_sources(
            _cls: type[BaseSettings],
            /,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            **others: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            center = ConfigCenterSettingsSource(settings_cls, data_id=data_id, prefix=prefix)
            first, *rest = before(settings_cls, init_settings=init_settings, **others)
            return first, center, *rest

        made = classmethod(settings_customise_sources)
        settings.settings_customise_sources = made  # type: ignore[assignment,method-assign]
        return settings

    return mark
