"""Retry and hedging: attempts, back-off, budgets, and the latency a hedge waits for."""
