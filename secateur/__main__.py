"""`python -m secateur`."""

from .cli import main

main()
