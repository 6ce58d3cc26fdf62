"""Consumers as processes of their own, on packages of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Consumer:
    """A tool whose packages `make consumers` has put into `.consumers/NAME`; ours are found behind them."""

    name: str

    def run(self, *arguments: str | Path) -> str:
        """Runs Python with its packages; returns standard output, and fails with standard error."""
        variables = os.environ | {
            "PYTHONPATH": f"{ROOT / '.consumers' / self.name}:{ROOT}",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONWARNINGS": "ignore",
        }
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def version(self, package: str) -> str:
        return self.run("-c", f"import importlib.metadata as m; print(m.version('{package}'))").strip()
