"""Telemetry: spans and metrics of calls, attempts and instances."""
