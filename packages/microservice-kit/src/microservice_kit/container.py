"""The dependency-injector container of a module: its parts, ready to be overridden.

The only module of the toolkit that imports dependency_injector. Nothing here is wired: an
application that wants `@inject` wires this container itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dependency_injector import containers, providers

__all__ = ("MicroserviceContainer", "build_container")


class MicroserviceContainer(containers.DeclarativeContainer):
    """The parts of a module by name; None for a part that is not enabled, or not open.

    An override of a provider takes the part's place in the whole module, from the moment of the
    override until `reset_override`. One of `config_center`, `service_registry` or `transport` has to
    be there before the module opens to be what it opens with.
    """

    config_center: providers.Provider[object] = providers.Object(None)
    service_registry: providers.Provider[object] = providers.Object(None)
    service_client: providers.Provider[object] = providers.Object(None)
    config: providers.Provider[object] = providers.Object(None)
    transport: providers.Provider[object] = providers.Object(None)
    """The httpx transport that the service client sends with; None = connections of its own."""


def build_container(read_part: Callable[[str], object]) -> MicroserviceContainer:
    """Build a container that reads each part when it is asked for.

    Args:
        read_part: returns the part of that name, as it is now.
    """
    container = MicroserviceContainer()
    for name in tuple(container.providers):
        container.set_provider(name, providers.Callable(partial(read_part, name)))
    return container
