# `make demo` and `make test` start from a bare clone with Python >= 3.11, make and git.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export DVC_NO_ANALYTICS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup demo test lint format mlflow bench lock clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements.lock
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps --editable .
	@touch $@

demo: setup
	scripts/demo.sh

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mlflow: setup
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000

bench: setup
	$(BIN)/python -m benchmarks

# Needs uv on the PATH.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --no-emit-index-url --no-header --no-annotate --upgrade --quiet --output-file requirements.lock
	sed -i '1i # Every dependency of every extra, pinned, for all platforms. Made by `make lock`; no index is named.' requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
