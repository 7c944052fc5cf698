PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread per process: small jobs with more spend their time on synchronisation.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint docs format clean

demo: $(VENV)/installed  ## Install, run the main job, print the path of the report
	$(BIN)/basinet run --out runs/main

test: $(VENV)/installed  ## Install, run all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/installed  ## Check style, documentation and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/*.py

docs: $(VENV)/installed  ## Build the documentation into build/docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -d build/doctrees docs build/docs

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt tests/peers.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "basinet needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/peers.txt
	touch $@

clean:
	rm -rf $(VENV) runs build docs/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
