"""Rate limits: in this process, by key, paced, and shared through Redis."""
