"""Plans of other tools, read back: what they say becomes of each block of the dense model."""
