"""The consumer that a test asks for; and what the tests have shown becomes the table of docs/reference/formats.md."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consumers.environment import ROOT, Consumer
from tests.consumers.table import Proof, write_table

PROOFS: list[Proof] = []


@pytest.fixture
def consumer(request: pytest.FixtureRequest) -> Consumer:
    """The consumer that the test's `consumer` mark names; the test is left out where its packages are not there."""
    name = request.node.get_closest_marker("consumer").args[0]
    if not (ROOT / ".consumers" / name).is_dir():
        pytest.skip(f"make consumers CONSUMERS={name}")
    return Consumer(name)


@pytest.fixture
def proofs() -> Iterator[list[Proof]]:
    """Where a test says what it has shown; kept only if the test gets to its end."""
    shown: list[Proof] = []
    yield shown
    PROOFS.extend(shown)


def pytest_sessionfinish(exitstatus: int) -> None:
    if exitstatus == 0 and "SECATEUR_TABLE" in os.environ:
        write_table(Path(os.environ["SECATEUR_TABLE"]), PROOFS)
