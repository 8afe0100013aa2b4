"""The lane of the code that runs now: context variable, names, classes, threads, generators."""
