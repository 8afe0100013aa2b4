"""Interceptors: the chain around each call, and the interceptors that come with the client."""
