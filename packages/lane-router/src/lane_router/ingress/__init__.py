"""Ingress: ASGI and WSGI applications run each request in the lane its headers name."""
