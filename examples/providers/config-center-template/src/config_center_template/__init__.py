"""A configuration center in a folder of JSON files: the template of a provider."""

from .config_center import JsonFolderConfigCenter
from .provider import config_center

__all__ = ("JsonFolderConfigCenter", "config_center")
