"""What a candidate is scored by, and what it is compared with."""
