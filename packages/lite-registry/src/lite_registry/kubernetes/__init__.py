"""Lane routes from a Kubernetes cluster: access, list and watch, from Services to lanes."""
