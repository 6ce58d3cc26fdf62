"""Structure-aware mutations of everything that users hand to the program: `make fuzz`."""
