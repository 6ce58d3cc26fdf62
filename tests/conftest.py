"""Shared fixtures: everything a test prepares goes into its own cache folder, and the hub is out of reach."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny import save_text, save_tiny

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
settings.register_profile("ci", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")


SLOW = (
    "tests/test_real_model.py",
    "tests/consumers/",
    "tests/test_workers.py",
    "tests/test_kill_and_resume.py",
    "tests/test_clusters.py",
    "tests/test_kills.py",
)
"""First, so that no worker is left alone with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are handed to workers in the order in which they come."""
    order = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: next((order[name] for name in SLOW if item.nodeid.startswith(name)), len(SLOW)))


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny checkpoint `model` and the texts `calibration.txt` and `held.txt`."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder / "model")
    save_text(folder / "calibration.txt", seed=1)
    save_text(folder / "held.txt", seed=2)
    return folder
