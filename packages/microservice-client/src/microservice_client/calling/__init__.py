"""One call: the engine, its attempts, the choice of an instance, and what is kept per service."""
