"""One file for each kind of anatomy."""
