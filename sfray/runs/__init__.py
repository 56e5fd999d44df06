"""A run from its plan to its summary: rounds until nothing is open, one writer."""
