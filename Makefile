# The two commands at the top of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written after a complete install; a newer constraints file or pyproject installs again.
INSTALLED := $(VENV)/.installed

.PHONY: demo test check unit format schemas dashboard clean

demo: $(INSTALLED)
	$(BIN)/sfray demo --output demo-output

test: $(INSTALLED)
	$(BIN)/python -m pytest tests

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit

unit: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(INSTALLED)
	$(BIN)/python tools/make_schemas.py

dashboard: $(INSTALLED)
	$(BIN)/python -m tools.make_dashboard

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build demo-output
