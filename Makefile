# make demo | make test | make repro JOBS=2 | make bench | make lint: each makes .venv first, where there is none.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
unexport PYTHON  # it makes .venv; the stages run in that

.PHONY: help demo test repro bench lint
help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: .venv/ready  ## the whole graph on the embedded sample, in demo/
	$(BIN)/python scripts/demo.py

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest -q

repro: .venv/ready  ## dvc repro, with JOBS=2 models in training side by side (TASK=forecast: those alone)
	scripts/repro.sh $(JOBS) $(TASK)

bench: demo  ## ours beside the alternatives, on this machine
	$(BIN)/python -m benchmarks.bench

lint: .venv/ready  ## ruff: lint and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "error: Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --requirement requirements.txt --constraint constraints.txt
	@touch $@
