"""The command line: its commands, and what each prints; `__main__` turns how they end into a message and a status."""
