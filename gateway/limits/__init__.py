"""May they: bounds on what is taken in. Knows counts, not requests."""
