"""Colouring: rules that give a request its lane at the gateway."""
