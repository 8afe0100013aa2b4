"""Telemetry: OpenTelemetry set up, request spans, counters, log lines as JSON."""
