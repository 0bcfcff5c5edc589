# make run     build, fetch a small model, start the server, ask it a question
# make test    everything that pytest finds (ARGS="…" goes to pytest)
# make test-fast   the tests that need no model, no registry and little time, in parallel
# make coverage    make test with the branch coverage of the package
# make lint    ruff, mypy and the import contracts
# make docs    the documentation site, into site/
# make dist    the source distribution and the wheel, checked, into dist/
# make bench   this server under load (ARGS="…" goes to benchmarks/serve.py)
# make clean   remove what the others made
#
# make test-lowest   the tests with the lowest versions of the direct dependencies

SHELL := /bin/sh
.SUFFIXES:
.PHONY: run test test-fast coverage test-lowest lint docs dist bench clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
MODEL := .cache/SmolLM2-135M-Instruct.Q4_1.gguf
MINILM := .cache/all-MiniLM-L6-v2

PROMPT ?= Why is the sky blue? Answer in two sentences.
ARGS ?=

# The question reaches the demo as it was typed, whatever characters are in it.
override PROMPT := $(value PROMPT)
export PROMPT

# The first Python of version 3.11 or later that can make virtual environments.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# llama-cpp-python is compiled on this machine. GCC 12 drops the stores that configure the AMX unit, and
# the program dies at its first batch: on processors that have the unit it is left out of the build.
# CMAKE_ARGS, CFLAGS and CXXFLAGS of the environment are heeded, e.g. CMAKE_ARGS=-DGGML_CUDA=on.
NO_AMX := $(shell grep -qsw amx_tile /proc/cpuinfo && flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" \
	&& $${CC:-cc} $$flags -E -x c /dev/null >/dev/null 2>&1 && echo $$flags)
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PIP_INSTALL = CFLAGS="$(strip $(NO_AMX) $(CFLAGS))" CXXFLAGS="$(strip $(NO_AMX) $(CXXFLAGS))" \
	CMAKE_BUILD_PARALLEL_LEVEL="$${CMAKE_BUILD_PARALLEL_LEVEL:-$(CORES)}" \
	$(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)

PACKAGE := setup.py pyproject.toml ollama_tw/__init__.py

run: $(VENV)/.installed $(MODEL)
	@$(BIN)/python contrib/demo/demo.py $(MODEL)

test: $(VENV)/.tests-installed $(MODEL) | $(MINILM)
	OLLAMA_TW_SMOLLM2="$(abspath $(MODEL))" OLLAMA_TW_MINILM="$(abspath $(MINILM))" \
		$(BIN)/python -m pytest $(ARGS)

test-fast: $(VENV)/.tests-installed
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal \
		-p no:schemathesis -p no:langsmith_plugin \
		-m "not slow and not model and not registry and not browser and not cluster" $(ARGS)

coverage:
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report term $(ARGS)"

# What differs between systems is checked for each; a cache of its own makes all but the first run quick.
lint: $(VENV)/.tools-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --platform linux --cache-dir .mypy_cache/linux
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin ollama_tw benchmarks
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 ollama_tw benchmarks
	$(BIN)/lint-imports

# In an environment of its own; the dependencies of the dependencies are the newest that fit.
test-lowest: $(LOWEST)/constraints.txt
	@$(MAKE) --no-print-directory test VENV=$(LOWEST) CONSTRAINTS=$(LOWEST)/constraints.txt

docs: $(VENV)/.docs-installed
	$(BIN)/mkdocs build --strict

dist: $(VENV)/.tools-installed
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

bench: $(VENV)/.tests-installed $(MODEL)
	$(BIN)/python contrib/demo/bench.py $(MODEL) $(ARGS)

clean:
	rm -rf $(VENV) $(LOWEST) .cache build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis _trial_temp*
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name dropin.cache -exec rm -f {} +

$(VENV)/.made:
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.11 or later with the modules venv and ensurepip was found (on Debian and Ubuntu:" >&2; \
		echo "apt install python3-venv). make PYTHON=/path/to/python3 names one." >&2; exit 1; }
	@echo "==> Making the virtual environment $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(PACKAGE)
	@echo "==> Installing the server and what it needs"
	@echo "    llama.cpp is compiled if pip has no wheel of it yet: some minutes (4 on 2 cores), and pip keeps the result."
	@$(PIP_INSTALL) -e .
	@# Twisted's list of plugins is written now, so that no user without rights has to.
	@$(BIN)/twistd --help >/dev/null
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed
	@echo "==> Installing what the tests need"
	@$(PIP_INSTALL) --quiet -e '.[test]'
	@touch $@

$(VENV)/.tools-installed: $(VENV)/.tests-installed
	@echo "==> Installing the tools of development"
	@$(PIP_INSTALL) --quiet -e '.[dev]'
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	@echo "==> Installing the generator of the documentation site"
	@$(PIP_INSTALL) --quiet -e '.[docs]'
	@touch $@

$(LOWEST)/constraints.txt: setup.py
	@$(MAKE) --no-print-directory VENV=$(LOWEST) $(LOWEST)/.made
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra test \
		--python $(LOWEST)/bin/python --output-file $@ setup.py >/dev/null

$(MODEL): | $(VENV)/.made
	@$(BIN)/python contrib/demo/fetch_model.py $@

$(MINILM): | $(VENV)/.made
	@$(BIN)/python contrib/demo/fetch_minilm.py $@
