"""Linears stored in fewer bits: how types are made, kept packed, and taken apart on the model's device."""
