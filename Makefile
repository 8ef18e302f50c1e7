# `make demo` and `make test` are all it takes: each creates the environment that it needs from python3, make and git.
SUITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.10; do \
	$$name -c '$(SUITS)' 2> /dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench bench-train fault clean help

help: ## what there is to do
	@grep -E '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "artray: expected Python 3.10 to 3.12, found none; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c '$(SUITS)' || { echo "artray: expected Python 3.10 to 3.12, got $$($(PYTHON) --version); make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "artray: expected a Python that makes environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)   ## process the sample archive into ./demo-store, and say what to try next
	@$(BIN)/artray demo

test: lint       ## lint, type check and every test that runs anywhere
	$(BIN)/python -m pytest artray tests --ignore=tests/benchmarks

lint: $(READY)   ## ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## throughput and query benchmarks against rivals, into docs/benchmarks.md
	$(BIN)/python -m pip install --quiet -c constraints.txt daft
	$(BIN)/python -m tests.benchmarks

bench-train: $(READY)  ## training against a bare PyTorch loop, into docs/benchmarks-training.md
	$(BIN)/python -m tests.benchmarks.training

fault: $(READY)  ## kill a run at 20 random moments, on disk and on S3 (half an hour)
	ARTRAY_FAULT_MOMENTS=20 $(BIN)/python -m pytest tests/fault/test_killed.py --timeout=3600

clean:           ## remove what the other targets made
	rm -rf $(VENV) demo-archive demo-store .mypy_cache .ruff_cache .pytest_cache
