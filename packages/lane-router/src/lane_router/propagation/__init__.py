"""Propagation: how a lane travels in headers and in baggage."""
