# make run    environment, then the main job            make test   everything, as CI does
# make check  ruff, pyright, fast tests                 make results  every laptop run, and the table
# make mutate which faults the tests do not see (an hour; it continues where it was stopped)
# PYTHON=python3.12 VENV=.venv312 make test             another interpreter, another environment
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Compilation is most of the tests' time: what is compiled once is kept, for the other processes of
# the same run too.
CACHED := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
PYTEST := $(CACHED) $(BIN)/python -m pytest -q
# a file at a time, in the order of tests/conftest.py: not that of the numbers of tests
TWO := -n 2 --dist loadfile --no-loadscope-reorder
FOUR_DEVICES := XLA_FLAGS=--xla_force_host_platform_device_count=4

.PHONY: help run test test-float32 test-devices check check-source check-fast results mutate
help:
	@sed -n 's/^# //p' Makefile | head -4

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "ntkens needs Python 3.11 or newer: install it, or say PYTHON=/its/path"; exit 1; }
	@echo "==> Environment $(VENV) ($$($(PYTHON) --version)); the first time takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	@echo "==> Installing ntkens with the pinned versions of constraints.txt"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,test]'
	@touch $(READY)

run: $(READY)
	@echo "==> Exact learning of permutations by NTK ensembles (quick preset)"
	$(BIN)/python -m experiments.exact_permutations quick

test: $(READY)
	@echo "==> Tests: float64, two processes"
	$(PYTEST) $(TWO) tests
	@echo "==> Tests: float32, and four host devices, at once"
	$(MAKE) --no-print-directory -j 2 test-float32 test-devices

test-float32: $(READY)
	JAX_ENABLE_X64=0 $(PYTEST) tests/float32

test-devices: $(READY)
	$(FOUR_DEVICES) $(PYTEST) tests/multi_device

results: $(READY)
	@echo "==> Recording the laptop preset of every experiment (finished ones are kept), then the table"
	for script in $$(ls experiments | sed -n 's/^\([a-z].*\)\.py$$/\1/p' | grep -vxE 'run|table'); do \
	    $(BIN)/python -m experiments.$$script laptop --out results; done
	$(BIN)/python -m experiments.table

check: $(READY)
	@echo "==> ruff, pyright and the fast tests, at once"
	$(MAKE) --no-print-directory -j 2 check-source check-fast

check-source: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

check-fast: $(READY)
	$(PYTEST) $(TWO) -m 'not slow' tests

mutate: $(READY)
	$(BIN)/python tests/mutants.py
