"""Circuit breakers: the breaker, its states and windows, one per key, shared through Redis."""
