"""The dependency-injector container of a module: opened objects only, ready to be overridden.

The only module of the toolkit that imports dependency_injector. Nothing here is wired: an
application that wants `@inject` wires this container itself.
"""

from __future__ import annotations

from dependency_injector import containers, providers

__all__ = ("MicroserviceContainer", "build_container")


class MicroserviceContainer(containers.DeclarativeContainer):
    """The opened parts of a module by name; None for a part that is not enabled."""

    config_center: providers.Object[object] = providers.Object(None)
    service_registry: providers.Object[object] = providers.Object(None)
    service_client: providers.Object[object] = providers.Object(None)
    config: providers.Object[object] = providers.Object(None)


def build_container(**parts: object) -> MicroserviceContainer:
    """Build a container that provides these objects."""
    container = MicroserviceContainer()
    for name, value in parts.items():
        container.set_provider(name, providers.Object(value))
    return container
