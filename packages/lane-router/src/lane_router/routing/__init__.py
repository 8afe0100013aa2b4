"""Routing: where a call to a service goes for a lane, and what happens when the lane has none."""
