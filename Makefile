# Everything runs in a virtual environment of the project's own, made on first use: make demo, make test, make check.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check

demo: .venv/installed
	$(BIN)/python demo.py

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: requirements.txt pyproject.toml $(wildcard pytorch-gradual-warmup-lr/pyproject.toml pytorch-gradual-warmup-lr/*/*.py)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -e ".[dev]"
	touch $@
