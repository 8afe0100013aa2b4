"""Time limits: timeouts, deadlines, and their form on the wire."""
