"""Measurements; each prints a table and writes nothing else. Run with `make benchmarks`."""
