"""Published allocations: one rule a file, all of them in `table`."""
