# Everything runs in a virtual environment of the project's own, made on first use: make demo, make test, make check, make docs.
PYTHON ?= python3
BIN := .venv/bin
# The oldest Python and PyTorch that the project works with, and their environment.
FLOOR_PYTHON ?= python3.10
FLOOR_TORCH := torch==2.6.* torchvision==0.21.*
FLOOR_BIN := .venv-floor/bin
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

# Which mutants, by name: make mutants MUTANTS='mprnet.training.order* mprnet.metrics.*'
MUTANTS ?=
# Where make gpu-check measures: cuda, or cpu for a rehearsal.
DEVICE ?= cuda
# The first of the numbers from which make fuzz makes its files.
SEED ?= 0

.PHONY: demo test test-floor check docs mutants fuzz gpu-check

demo: .venv/installed
	$(BIN)/python demo.py

test: .venv/installed-dev
	$(BIN)/pytest $(PARALLEL)

test-floor: .venv-floor/installed
	$(FLOOR_BIN)/pytest $(PARALLEL)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Material for MkDocs prints a long notice about the future of MkDocs at every start.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "open site/index.html"

mutants: .venv/installed-mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(foreach name,$(MUTANTS),'$(name)')
	@$(BIN)/mutmut results | grep survived || echo "no survivors"

# Damaged files and requests, through what reads them (tests/fuzz).
fuzz: .venv/installed-dev
	$(BIN)/python tests/fuzz/runner.py pictures --count 2000 --seed $(SEED)
	$(BIN)/python tests/fuzz/weights.py --count 500 --seed $(SEED)
	$(BIN)/python tests/fuzz/runner.py page --count 600 --seed $(SEED)

# Ten minutes on a GPU: results and speed of inference, time and memory of training (benchmarks/gpu.py). Writes
# docs/gpu_figures.md.
gpu-check: .venv/installed-bench
	$(BIN)/python benchmarks/gpu.py --device $(DEVICE)

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt
	touch $@

# With the published network.
.venv/installed-bench: .venv/installed
	$(BIN)/pip install -e ".[bench]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -e ".[dev]"
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install -e ".[docs]"
	touch $@

.venv/installed-mutants: .venv/installed-dev
	$(BIN)/pip install -e ".[mutants]"
	touch $@

.venv-floor/installed: requirements.txt pyproject.toml
	$(FLOOR_PYTHON) -m venv .venv-floor
	$(FLOOR_BIN)/pip install $(FLOOR_TORCH) -r requirements.txt
	$(FLOOR_BIN)/pip install $(FLOOR_TORCH) -e ".[test]"
	touch $@
