"""HTTP: connections, requests to services and instances, streams of events."""
