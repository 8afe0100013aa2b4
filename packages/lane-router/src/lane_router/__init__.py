"""Traffic lanes without touching call sites: context, middleware, client instrumentation, route table."""

__all__: tuple[str, ...] = ()
