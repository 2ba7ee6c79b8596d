# make demo | make test | make repro JOBS=2 | make bench | make lint: each one first builds .venv where it is missing.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
unexport PYTHON  # it builds .venv; the stages run in that

.PHONY: help demo predict test coverage repro bench lint
help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: .venv/ready  ## all of dvc.yaml on the embedded sample, in demo/
	$(BIN)/python scripts/demo.py

predict: .venv/ready  ## a forecast from records.NAME.latest: make predict [FILE=...] [MODEL=...] [AT=...] [OUTPUT=...]
	@./run predict $(if $(FILE),"$(FILE)") --model "$(MODEL)" --at "$(AT)" --output "$(OUTPUT)"

test: .venv/ready-dev  ## all tests but those of a cluster (CONTRIBUTING.md), a process per core
	$(BIN)/python -m pytest -q -n auto --dist worksteal

coverage: .venv/ready-dev  ## the same tests; fails below the coverage floor of pyproject.toml
	$(BIN)/python -m pytest -q -n auto --dist worksteal --cov --cov-report=term-missing:skip-covered

repro: .venv/ready  ## dvc repro, JOBS stages at a time or on a Dask SCHEDULER (TASK=forecast: that task only)
	$(BIN)/python scripts/repro.py $(TASK) --jobs $(JOBS) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

bench: .venv/ready-dev demo  ## this project against the alternatives, on this machine
	$(BIN)/python -m benchmarks.bench

lint: .venv/ready-dev  ## ruff (lint and format), mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "error: expected Python 3.11 to 3.13, found " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/ready: requirements.txt constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --requirement requirements.txt --constraint constraints.txt
	@touch $@

.venv/ready-dev: requirements.txt requirements-dev.txt constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --requirement requirements-dev.txt --constraint constraints.txt
	@touch $@ .venv/ready
