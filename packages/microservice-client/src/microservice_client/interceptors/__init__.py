"""Interceptors: the chain around each call, and the ones that come with the client."""
