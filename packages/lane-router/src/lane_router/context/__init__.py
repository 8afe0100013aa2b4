"""The lane of the running code: context variable, names, classes, threads, generators."""
