"""Calls to other services: the client opened lazily, its policies and lanes from configuration."""
