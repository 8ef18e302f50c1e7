# `make demo` and `make test` are all it takes: each creates the environment that it needs from python3, make and git.
SUITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.10; do \
	$$name -c '$(SUITS)' 2> /dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench fault clean help

help: ## what there is to do
	@grep -E '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Debian's bare python3 has no ensurepip: there pip comes from the package index, as the wheel that its hash names.
define GET_PIP
import hashlib, os, re, subprocess, sys, tempfile
from urllib.parse import urljoin
from urllib.request import urlopen
index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
links = re.findall(r'href="([^"]*/pip-([0-9.]+)-py3-none-any.whl)#sha256=([0-9a-f]+)"', urlopen(index).read().decode())
link, _, digest = max(links, key=lambda found: tuple(map(int, found[1].split("."))))
wheel = urlopen(urljoin(index, link)).read()
sys.exit("pip: not the wheel that the index names") if hashlib.sha256(wheel).hexdigest() != digest else None
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, link.rsplit("/", 1)[1])
    open(path, "wb").write(wheel)
    subprocess.run([sys.executable, path + "/pip", "install", "--quiet", "--no-index", path], check=True)
endef
export GET_PIP

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "artray: expected Python 3.10 to 3.12, found none; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c '$(SUITS)' || { echo "artray: expected Python 3.10 to 3.12, got $$($(PYTHON) --version); make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip' 2> /dev/null && $(PYTHON) -m venv $(VENV) \
		|| { $(PYTHON) -m venv --without-pip $(VENV) && $(BIN)/python -c "$$GET_PIP"; }
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

fault: $(READY)  ## kill a run at 20 random moments, on disk and on S3 (half an hour)
	ARTRAY_FAULT_MOMENTS=20 $(BIN)/python -m pytest tests/fault/test_killed.py --timeout=3600

clean:           ## remove what the other targets made
	rm -rf $(VENV) demo-archive demo-store .mypy_cache .ruff_cache .pytest_cache
