"""What application code uses anywhere: it goes by the module that is open in this context."""
