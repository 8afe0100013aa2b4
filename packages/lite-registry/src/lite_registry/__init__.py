"""A small standalone registry: leased instances over HTTP, lane routes from Kubernetes or a file."""

from .errors import AddressInUseError, LiteRegistryError, SettingsError
from .file_source import FileRoutes, StaticRoutes
from .server import LiteRegistryServer

__all__ = (
    "AddressInUseError",
    "FileRoutes",
    "LiteRegistryError",
    "LiteRegistryServer",
    "SettingsError",
    "StaticRoutes",
)
