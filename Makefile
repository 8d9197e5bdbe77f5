# Every target works on a fresh clone and needs only Python 3.11 to 3.13, make and a network connection.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted installation is repeated: what training needs, and everything.
RUNNABLE := $(VENV)/.runnable
STAMP := $(VENV)/.installed
# no-compile: most of the files are never imported, and Python compiles the others when they are.
PIP_FLAGS := --quiet --disable-pip-version-check --prefer-binary --progress-bar off --no-compile
# Extra arguments of the target's program: make train ARGS="seed=1", make test ARGS="-k color"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train test test-all check faults clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

install: $(STAMP)  ## install the package and everything it needs into .venv (about 6 GB; safe to repeat)

define install
@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
  echo "cis_seg needs Python 3.11, 3.12 or 3.13; found: $(PYTHON), $$($(PYTHON) --version 2>&1)." \
    "Choose another one: make install PYTHON=python3.12" >&2; exit 1; }
@echo "installing cis_seg and its libraries into $(VENV): about 6 GB, several minutes"
@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable "$(1)"
@touch $(RUNNABLE)
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $@

$(RUNNABLE): pyproject.toml constraints.txt
	$(call install,.)

STAGES := demo_pretrain,demo_finetune_teacher
train: $(RUNNABLE)  ## train BoxInst, then OverlapLoss and a teacher, on the generated crowd; reports a finished run, resumes an interrupted one
	$(BIN)/python -m cis_seg.train -m experiment=$(STAGES) resume=true $(ARGS)

# Two processes with one thread each, because there are many small tests. loadscope runs the tests of a file in one process, so that its fixtures
# are built once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
test: install  ## run the tests that prove the behaviour (6 minutes on two cores)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: install  ## run all tests, also the slow ones: whole README, recipes, notebooks, fault injection, whole networks
	$(PYTEST) $(ARGS)

check: install  ## lint, strict types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src $(wildcard scripts/*.py)
	$(BIN)/python -m pytest -q tests/test_architecture.py

faults: install  ## inject faults into runs and report which ones they survive (long; a short form is part of make test-all)
	$(BIN)/python scripts/faults.py $(ARGS)

clean:  ## remove caches and build products (not .venv, data or runs)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
