# make demo | make test | make check — each makes .venv first when it is missing or out of date.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-all soak check format bench clean

demo: $(READY)
	$(BIN)/danlu demo

test: $(READY)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile -m "not kill and not slow and not soak and not gpu"

test-all: $(READY)
	$(BIN)/python -m pytest -m "not soak"

soak: $(READY)
	$(BIN)/python -m pytest -m soak -s

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	@echo "the other benchmarks need data or peers: see benchmarks/README.md"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
