"""A service registry in a folder of JSON files: the template of a provider."""

from .provider import service_registry
from .service_registry import JsonFolderServiceRegistry

__all__ = ("JsonFolderServiceRegistry", "service_registry")
