"""A small standalone registry: leased instances over HTTP, lane routes from Kubernetes or a file."""

__all__: tuple[str, ...] = ()
