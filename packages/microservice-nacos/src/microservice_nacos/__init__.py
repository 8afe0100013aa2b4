"""Nacos 3 as configuration center and service registry of the microservice toolkit."""

__all__: tuple[str, ...] = ()
