"""Declarative clients: decorators, the plan of each method, parameters and responses."""
