# make demo   speak a corpus, train on it, report: four to ten minutes after installation
# make test   ruff, then the whole test suite
# make lint   ruff, formatting, mypy
#
# Each installs what it needs into .venv, once, and again when pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	PATH="$(BIN):$$PATH" recipes/demo/run.sh

# One thread a process: as many processes as cores are faster than threads that wait for each other.
test: $(VENV)/.installed-dev
	$(BIN)/ruff check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/.installed-demo: EXTRAS := demo
$(VENV)/.installed-dev: EXTRAS := demo,cluster,dev

$(VENV)/.installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "zfaudio needs Python 3.10 or newer; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) recipes/demo/data recipes/demo/exp
