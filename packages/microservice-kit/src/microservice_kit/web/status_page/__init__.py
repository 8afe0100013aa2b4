"""The status page `/microservice`: what one process knows, for operators."""
