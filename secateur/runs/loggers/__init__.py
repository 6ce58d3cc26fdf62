"""What a run measures while it lasts, written to the trackers that people already have."""
