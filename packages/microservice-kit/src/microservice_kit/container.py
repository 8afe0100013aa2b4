"""The dependency-injector container of a module: opened objects only, ready to be overridden.

The only module of the toolkit that imports dependency_injector. Nothing here is wired: an
application that wants `@inject` wires this container itself.
"""

from __future__ import annotations

from dependency_injector import containers, providers

__all__ = ("MicroserviceContainer", "container_of")


class MicroserviceContainer(containers.DeclarativeContainer):
    """What a module opened, by name; the value is None for what was not enabled."""

    config_center: providers.Object[object] = providers.Object(None)
    service_registry: providers.Object[object] = providers.Object(None)
    service_client: providers.Object[object] = providers.Object(None)
    config: providers.Object[object] = providers.Object(None)


def container_of(**opened: object) -> MicroserviceContainer:
    """A container that holds these objects."""
    container = MicroserviceContainer()
    for name, value in opened.items():
        container.set_provider(name, providers.Object(value))
    return container
