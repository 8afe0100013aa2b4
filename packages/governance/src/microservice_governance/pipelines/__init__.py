"""Pipelines: several policies in a checked order, built from configuration and kept by name."""
