"""Which weights become zero at which level, prepared once and shared by every run."""
