"""Limits on concurrent calls: bulkhead, adaptive limit, load shedding."""
