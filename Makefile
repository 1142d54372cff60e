# make demo   make a corpus, train on it, and report: four to ten minutes after installation
# make test   lint with ruff, then run all tests
# make lint   ruff, formatting, types, import contracts
# make docs   build the documentation in site/
#
# Each of them installs what it needs into .venv, once, and again after pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	PATH="$(BIN):$$PATH" recipes/demo/run.sh

# One thread per process: several processes are faster than threads that wait for each other.
test: $(VENV)/.installed-dev
	$(BIN)/ruff check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict

$(VENV)/.installed-demo: EXTRAS := demo
$(VENV)/.installed-dev: EXTRAS := demo,cluster,dev
$(VENV)/.installed-docs: EXTRAS := demo,docs

$(VENV)/.installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "zfaudio needs Python 3.10 or newer; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) site recipes/demo/data recipes/demo/exp
