"""The model: where it comes from, its blocks, and what makes one with layers of different sizes."""
