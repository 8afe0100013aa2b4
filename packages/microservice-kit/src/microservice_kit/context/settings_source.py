"""The configuration center as a source of an existing pydantic-settings class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from microservice_kit.config.data import MISSING, look_up
from microservice_kit.config.documents import DocumentId
from microservice_kit.errors import NotEnabledError

from .current import current_module

__all__ = ("ConfigCenterSettingsSource", "config_center_source")

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class ConfigCenterSettingsSource(PydanticBaseSettingsSource):
    """Fills the fields of a settings class from the open module's configuration.

    While no module is open it fills none.

    Args:
        data_id: read this document only; empty reads the merged configuration.
        prefix: the dotted key that contains the fields.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], *, data_id: str = "", prefix: str = ""
    ) -> None:
        super().__init__(settings_cls)
        self._data_id = data_id
        self._prefix = prefix

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Return the value of one field, in the form that pydantic-settings expects."""
        key = field.alias or field_name
        return self._read().get(key), key, False

    def __call__(self) -> dict[str, object]:
        """Return the values of all fields that the configuration has."""
        names = {
            name
            for field_name, info in self.settings_cls.model_fields.items()
            for name in (field_name, info.alias)
            if name
        }
        return {key: value for key, value in self._read().items() if key in names}

    def _read(self) -> Mapping[str, object]:
        try:
            config = current_module().config
        except NotEnabledError:
            return {}
        if self._data_id:
            document_id = DocumentId(self._data_id)
            config.include(document_id)
            data = config.document(document_id)
        else:
            data = config.version.data
        fields = look_up(data, self._prefix) if self._prefix else data
        return fields if fields is not MISSING and isinstance(fields, Mapping) else {}


def config_center_source(
    data_id: str = "", *, prefix: str = ""
) -> Callable[[type[SettingsT]], type[SettingsT]]:
    """Add the configuration center to the sources of an existing settings class, in one line.

    `@config_center_source("app.yaml", prefix="db")` on the class: constructor arguments win, then
    the center, then the sources that the class had before. While no module is open nothing changes.

    Args:
        data_id, prefix: see `ConfigCenterSettingsSource`.
    """

    def mark(settings: type[SettingsT]) -> type[SettingsT]:
        customise_before = settings.settings_customise_sources

        def settings_customise_sources(
            _cls: type[BaseSettings],
            /,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            **others: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            center = ConfigCenterSettingsSource(settings_cls, data_id=data_id, prefix=prefix)
            first, *others_in_order = customise_before(
                settings_cls, init_settings=init_settings, **others
            )
            return first, center, *others_in_order

        method = classmethod(settings_customise_sources)
        settings.settings_customise_sources = method  # type: ignore[assignment,method-assign] # `others` takes the sources by name
        return settings

    return mark
