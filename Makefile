# What one does with bertkit from a checkout. Every target works as the first command on a machine that has python3 (3.11 or
# newer), make and git: it makes .venv and installs into it what constraints.txt pins, once, and again when that changes.
#
#   make quickstart   the whole road in minutes, offline: tokenizer, pretraining, fine-tuning, features
#   make test         the tests, but for those that need minutes; PYTEST_ARGS="-k packing" is passed on
#   make test-all     all tests, hypothesis drawing new inputs each time
#   make chaos        kill a pretraining 50 times and compare it with one left alone
#   make check        linter, formatter, types, and whether docs/api.md and the tables of README and docs/ecosystem.md are the code's
#   make format       put the sources into the house format
#   make docs         write docs/api.md and the README's table of families anew
#   make ecosystem    every family through everything that reads checkpoints; writes the table of docs/ecosystem.md
#   make bench        bertkit beside its peers; writes docs/benchmarks.md
#   make bench-full   the slower comparisons, too; BERTKIT_DATA has their texts
#   make bench-gpu    pretraining on a GPU beside transformers' Trainer; writes gpu.json; GPU_ARGS="--preset large" is passed on
#
# Tests read real text from the folder that BERTKIT_DATA names, and skip what needs it where it is not set.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A file is tested by one process, two files at a time by two: PYTEST_ARGS="-n 0" tests them one after the other.
IN_PARALLEL := -n 2 --dist loadfile

.PHONY: help quickstart test test-all chaos check format docs ecosystem bench bench-full bench-gpu

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bertkit needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.11 ...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): minutes, the first time"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(INSTALLED)
	$(BIN)/bertkit quickstart

test test-all: export HF_HUB_OFFLINE = 1

test: $(INSTALLED)
	$(BIN)/pytest -m 'not slow' $(IN_PARALLEL) $(PYTEST_ARGS)

test-all: $(INSTALLED)
	$(BIN)/pytest --hypothesis-profile 'new inputs' $(IN_PARALLEL) $(PYTEST_ARGS)

chaos: $(INSTALLED)
	$(BIN)/python -m tests.training.chaos --kills 50

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate_api.py --check
	$(BIN)/python docs/generate_families.py --check
	$(BIN)/python -m examples.consumers.ecosystem_page --check

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python docs/generate_api.py
	$(BIN)/python docs/generate_families.py

ecosystem: $(INSTALLED)
	$(BIN)/python -m examples.every_consumer --markdown docs/ecosystem.md

# Each core by itself: several threads wait for one another on machines that have other work to do, and waiting is CPU time, too.
bench bench-full: export OMP_NUM_THREADS ?= 1

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py

bench-full: $(INSTALLED)
	$(BIN)/python benchmarks/run.py --full

bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py --output gpu.json $(GPU_ARGS)
