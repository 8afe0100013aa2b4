"""The demo: a registry, three instances of a service, a gateway, traffic, and what happens to them."""
