# make demo: a fresh machine -> a virtual environment -> ResNet-50 over r with latency -> reports/demo
# make test: the same environment -> the test suite
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-slow lint types check benchmark clean

demo: $(READY)
	$(BIN)/secost profile resnet50 -r 2,4,8,16,32 --seconds 90 -o reports/demo

# Two at a time, a file's tests in one process, which share what takes long to make.
# COVERAGE=--cov measures what they reach, against the floor in pyproject.toml.
test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(COVERAGE)

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

benchmark: $(READY)
	$(BIN)/python -m tests.benchmarks.counting
	$(BIN)/python -m tests.benchmarks.processes
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.training

clean:
	rm -rf $(VENV) build *.egg-info

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
