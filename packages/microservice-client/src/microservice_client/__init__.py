"""Call services by name over httpx: discovery, balancing, resilience, lanes and telemetry."""

__all__: tuple[str, ...] = ()
