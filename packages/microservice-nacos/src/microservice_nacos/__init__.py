"""Nacos 3 as configuration center and service registry of the toolkit."""

from __future__ import annotations

from .config_center import NacosConfigCenter
from .providers import config_center, service_registry
from .service_registry import NacosServiceRegistry

__all__ = ("NacosConfigCenter", "NacosServiceRegistry", "config_center", "service_registry")
