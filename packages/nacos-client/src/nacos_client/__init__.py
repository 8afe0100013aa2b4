"""Nacos 3 over HTTP: configuration, naming and administration, sync and async."""

__all__: tuple[str, ...] = ()
