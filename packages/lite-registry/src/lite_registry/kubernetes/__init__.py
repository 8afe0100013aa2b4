"""Lane routes from a Kubernetes cluster: access, list and watch, lanes from Services."""
