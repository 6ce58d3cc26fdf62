"""Plans as checkpoints that load."""
