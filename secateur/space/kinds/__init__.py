"""Kinds of genes, one a file; `table` has them by name."""
