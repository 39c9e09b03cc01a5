# `make` checks everything; `make demo` and `make test` need nothing before them but Python 3.11 to
# 3.13, make and gcc.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Which build of torch; "Install" in README.md has the other ones.
TORCH ?= -r requirements-torch.lock
DEMO_S ?= 30
export DEMO_S
FUZZ_FRAMES ?= 1000000
FAULTS ?= 300

.PHONY: check demo test faults nodes fuzz format static lint types contracts lock clean

check: static test

demo: .venv/runtime
	@$(BIN)/livegate demo

test: .venv/dev examples/node/node_modules
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Replicas, servers and connections killed, stopped and cut by a schedule, on one server, on a
# cluster, with a clock that steps and on real Ray; the account of every frame has to come out even.
faults: .venv/dev
	$(BIN)/python -m tests.faults server --faults $(FAULTS)
	$(BIN)/python -m tests.faults cluster --faults $(FAULTS)
	$(BIN)/python -m tests.faults clock --faults 60
	$(BIN)/python -m tests.faults ray --faults $(FAULTS)

# The rendered deployment on a real Ray cluster: redeployed, robbed of a node, rolled out.
nodes: .venv/dev
	$(BIN)/python -m tests.nodes

# Mutated frames, guided by the code they reach; what breaks a rule is left in build/fuzz.
fuzz: .venv/fuzz
	$(BIN)/python -m tests.fuzz.run --frames $(FUZZ_FRAMES)

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

# The locks hold all that is needed, hence --no-deps; torch, which they leave out, may bring CUDA.
.venv/runtime: requirements.lock requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Livegate runs on Python 3.11, 3.12 and 3.13: make PYTHON=/path/to/python"; exit 1; }
	@echo "Installing into .venv; what this downloads and how long it takes: 'Install' in README.md"
	$(PYTHON) -m venv .venv
	$(PIP) install --no-deps --require-hashes -r requirements.lock
	$(PIP) install $(TORCH)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import cv2' || \
		{ echo "OpenCV does not load: apt-get install libgl1 libglib2.0-0"; exit 1; }
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	$(PIP) check
	@touch $@

.venv/fuzz: .venv/dev
	$(PIP) install 'atheris>=3,<4'
	@touch $@

# For the test of the Node example, which is skipped where it can't be installed.
examples/node/node_modules: examples/node/package-lock.json
	@command -v npm > /dev/null && npm ci --prefix examples/node --no-audit --no-fund || \
		echo "The Node example is not tested: it needs Node 20, npm and its registry"

# Exact versions, with hashes, of what pyproject.toml allows; those in the locks stay where they can.
# `make lock UPGRADE=--upgrade` takes the newest.
COMPILE = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header --no-emit-package torch \
	--constraints requirements-torch.lock $(UPGRADE) pyproject.toml
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv==0.13.9
	$(COMPILE) --extra dev --output-file requirements-dev.lock > /dev/null
	echo 'setuptools>=77' | $(COMPILE) - --extra serve --constraints requirements-dev.lock \
		--output-file requirements.lock > /dev/null
	rm -rf build

# Never .livegate: it holds the cameras' keys.
clean:
	rm -rf .venv build dist *.egg-info examples/node/node_modules
