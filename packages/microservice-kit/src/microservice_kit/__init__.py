"""The application side: configuration, registration, service clients and ASGI glue in a handful of lines."""

__all__: tuple[str, ...] = ()
