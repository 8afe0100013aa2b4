"""Health checks: the application's own, and those that come with the kit."""
