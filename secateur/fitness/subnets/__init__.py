"""A genome applied to the live model, or written as one of its own."""
