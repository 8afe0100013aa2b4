"""The demo: registry, three copies of a service, a gateway, traffic, a crash, a changed setting."""
