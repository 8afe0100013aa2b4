"""Resilience policies that are right under concurrency: breaker, limiter, retry, bulkhead, timeout, pipeline."""

__all__: tuple[str, ...] = ()
