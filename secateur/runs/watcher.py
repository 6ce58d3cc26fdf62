"""Who is told what a run is doing."""


class Watcher:
    """Told what a run is doing; this one keeps quiet."""

    def phase(self, title: str, total: int | None) -> None:
        """A new phase of `total` units of work (tokens, blocks); None when that is not known."""

    def advance(self, amount: int) -> None:
        """Work done within the phase."""

    def at(self, completed: int, note: str) -> None:
        """Work done so far in the phase, and the best so far in a few words."""

    def blocks(self, title: str, done: int, total: int) -> None:
        """Blocks done in the phase `title`, of how many."""

    def say(self, message: str) -> None:
        """A line worth keeping."""
