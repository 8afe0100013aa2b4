"""The route table: its format, how it is polled from the registry, and its copy on disk."""
