"""The route table: its format, how it is polled from the registry, and kept on disk."""
