"""The ASGI side: lifespan, graceful stop, `/health`, `/metrics` and the status page."""
