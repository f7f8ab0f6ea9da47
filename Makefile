# The interface of the project: `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS := runs
WORLD := $(RUNS)/quickstart/data
READY := $(VENV)/.ready

.PHONY: help quickstart compare test test-slow test-oldest coverage lint format docs clean

.DEFAULT_GOAL := help

# Each target is told by the `##` on its line.
help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Environment: made once, and again when the dependencies change.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

quickstart: $(RUNS)/quickstart/report/report.md ## train a tiny REX-VLM on generated images, score it, and report: minutes on two cores
	@echo "Report: $<"

$(WORLD)/world.json: $(READY)
	$(BIN)/relpretrain data synthetic $(WORLD) --overwrite

$(RUNS)/quickstart/checkpoints/last.ckpt: $(WORLD)/world.json
	$(BIN)/relpretrain fit -c recipes/quickstart.yaml --overwrite

$(RUNS)/quickstart/report/report.md: $(RUNS)/quickstart/checkpoints/last.ckpt
	$(BIN)/python benchmarks/zero_shot.py --checkpoint $< --tasks vsr valse graphs \
		--data $(WORLD)/benchmarks --out $(RUNS)/quickstart/report
	$(BIN)/relpretrain report $(RUNS)/quickstart

compare: $(RUNS)/quickstart/report/report.md ## the same budget without relation objectives, and the two models side by side
	$(BIN)/relpretrain fit -c recipes/quickstart.yaml --run $(RUNS)/baseline --overwrite \
		--data.streams.graphs.ratio=0
	$(BIN)/python benchmarks/zero_shot.py --checkpoint $(RUNS)/baseline/checkpoints/last.ckpt \
		--tasks vsr valse --data $(WORLD)/benchmarks --out $(RUNS)/baseline/report
	$(BIN)/python benchmarks/zero_shot.py --compare $(RUNS)/baseline/report $(RUNS)/quickstart/report \
		--tasks vsr valse --data $(WORLD)/benchmarks --out $(RUNS)/compare

# Two processes, of which tests/conftest.py gives each one thread; a file stays in one, so that its fixtures are made
# once, and the longest come first (xdist would begin with the files of most tests).
TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -q -m "not slow" $(TWO)

test-slow: $(READY) ## the slow ones
	$(BIN)/python -m pytest -q -m slow

# Python 3.10 to 3.12: torch 2.6 has wheels for these.
test-oldest: ## all tests but the slow ones, with the oldest versions that pyproject.toml admits
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-oldest/bin/python -m pip install --quiet --editable . -r requirements/oldest.txt pytest pytest-xdist hypothesis
	$(VENV)-oldest/bin/python -m pytest -q -m "not slow" $(TWO)

coverage: $(READY) ## which lines the tests run: a table, and pages in runs/coverage
	$(BIN)/python -m pytest -q -m "not slow" $(TWO) --cov --cov-report=term --cov-report=html:$(RUNS)/coverage

lint: $(READY) ## ruff, mypy and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(READY) ## let ruff format the code, and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## the documentation site, in build/site; fails for a dead link
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## remove runs, builds and caches; .venv stays
	rm -rf $(RUNS) build dist .pytest_cache .mypy_cache .ruff_cache
