# The interface of the project: `make quickstart`, `make compare`, `make test`, `make lint`, `make format`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS := runs
WORLD := $(RUNS)/quickstart/data
READY := $(VENV)/.ready

.PHONY: quickstart compare test test-slow lint format clean

# Environment: made once, and again when the dependencies change.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# A tiny REX-VLM on generated images: shards, training, zero-shot table, report. About ten minutes on two cores.
quickstart: $(RUNS)/quickstart/report/report.md
	@echo "Report: $<"

$(WORLD)/world.json: $(READY)
	$(BIN)/relpretrain data synthetic $(WORLD) --overwrite

$(RUNS)/quickstart/checkpoints/last.ckpt: $(WORLD)/world.json
	$(BIN)/relpretrain fit -c recipes/quickstart.yaml

$(RUNS)/quickstart/report/report.md: $(RUNS)/quickstart/checkpoints/last.ckpt
	$(BIN)/python benchmarks/zero_shot.py --checkpoint $< --tasks vsr valse graphs \
		--data $(WORLD)/benchmarks --out $(RUNS)/quickstart/report
	$(BIN)/python -m relpretrain.viz.report $(RUNS)/quickstart --out $(RUNS)/quickstart/report

# The same budget without relation objectives, and the two models side by side.
compare: $(RUNS)/quickstart/report/report.md
	$(BIN)/relpretrain fit -c recipes/quickstart.yaml --run $(RUNS)/baseline --data.streams.graphs.ratio=0
	$(BIN)/python benchmarks/zero_shot.py --checkpoint $(RUNS)/baseline/checkpoints/last.ckpt \
		--tasks vsr valse --data $(WORLD)/benchmarks --out $(RUNS)/baseline/report
	$(BIN)/python benchmarks/zero_shot.py --compare $(RUNS)/baseline/report $(RUNS)/quickstart/report \
		--tasks vsr valse --data $(WORLD)/benchmarks --out $(RUNS)/compare

test: $(READY)
	$(BIN)/python -m pytest -q -m "not slow" -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(RUNS) build dist .pytest_cache .mypy_cache .ruff_cache
