"""Benches in other processes and on other machines, and how work is spread over them."""
