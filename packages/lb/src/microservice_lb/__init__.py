"""Load balancers and their stages: smooth weighted round robin, peak EWMA, ketama, Maglev and more."""

__all__: tuple[str, ...] = ()
