"""Registration: which services this process offers, and keeping them in the registry."""
