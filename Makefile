# `make` checks everything; `make demo` and `make test` need nothing before them but Python >= 3.11,
# make and gcc.

PYTHON ?= python3
BIN := .venv/bin
DEMO_S ?= 30
export DEMO_S

.PHONY: check demo test format static lint types contracts lock clean

check: static test

demo: .venv/runtime
	@$(BIN)/livegate demo

test: .venv/dev
	$(BIN)/python -m pytest

static: lint types contracts

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/dev
	$(BIN)/mypy

contracts: .venv/dev
	$(BIN)/lint-imports

.venv/runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Livegate needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -c 'import cv2' || \
		{ echo "OpenCV does not load. If libGL.so.1 is missing: apt-get install libgl1"; exit 1; }
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

# Exact versions from what pyproject.toml allows, taken in a clean environment.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet torch==2.13.0
	build/lock/bin/python -m pip install --quiet .
	build/lock/bin/python -m pip freeze --exclude livegate | sed 's/+cpu//' > requirements.lock
	build/lock/bin/python -m pip install --quiet '.[dev,render,report,readers]'
	build/lock/bin/python -m pip freeze --exclude livegate | sed 's/+cpu//' > requirements-dev.lock
	rm -rf build

clean:
	rm -rf .venv build .livegate *.egg-info
