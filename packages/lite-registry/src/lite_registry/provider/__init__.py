"""lite-registry as a provider of the port `ServiceRegistry`: the client side, on httpx."""

from .registry import LiteServiceRegistry, service_registry

__all__ = ("LiteServiceRegistry", "service_registry")
