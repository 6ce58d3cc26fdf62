"""Which heads, channels and features are kept, and how what is left is repaired."""
