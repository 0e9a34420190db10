# Every target sets up what it needs by itself; `make demo` and `make test` are the two to know.
PYTHON ?= python3
VENV := .venv
LABEL_STUDIO_VENV := .venv-label-studio
PEERS_VENV := .venv-peers
BIN := $(VENV)/bin
UV := $(BIN)/uv

# Both environments are installed side by side.
MAKEFLAGS += --jobs=2

# Compiled modules make every later start several times faster.
unexport PYTHONDONTWRITEBYTECODE
export OPENBLAS_NUM_THREADS ?= 1
export DAGSTER_DISABLE_TELEMETRY := yes

.PHONY: demo up test check format bench setup lock clean help
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.runtime $(LABEL_STUDIO_VENV)/.installed ## the whole loop on the sample images, then a summary table
	@$(BIN)/farmy demo

up: $(VENV)/.runtime $(LABEL_STUDIO_VENV)/.installed ## Label Studio and Dagster's web page and daemon, until Ctrl-C
	@$(BIN)/farmy up

test: $(VENV)/.dev $(LABEL_STUDIO_VENV)/.installed ## every test, also those that need servers and a browser
	@$(BIN)/pytest

check: $(VENV)/.dev ## formatting, lint, types, the direction of imports, Dagster's definitions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/dg check defs

format: $(VENV)/.dev ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev $(LABEL_STUDIO_VENV)/.installed $(PEERS_VENV)/.installed ## the benchmarks, side by side with other programs
	@$(BIN)/python -m benchmarks

setup: $(VENV)/.dev $(LABEL_STUDIO_VENV)/.installed ## both environments, nothing run

clean: ## remove the environments and all local state
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) $(PEERS_VENV) .farmy .mypy_cache .ruff_cache .pytest_cache .hypothesis

lock: $(UV) ## write the lock files anew
	@$(UV) pip compile -q --universal --no-emit-index-url --generate-hashes --custom-compile-command 'make lock' \
		pyproject.toml requirements/build.in -o requirements/runtime.lock
	@$(UV) pip compile -q --universal --no-emit-index-url --generate-hashes --custom-compile-command 'make lock' \
		pyproject.toml requirements/build.in --group dev -c requirements/runtime.lock -o requirements/dev.lock
	@$(UV) pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --custom-compile-command 'make lock' \
		requirements/label-studio.in -o requirements/label-studio.lock
	@$(UV) pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --custom-compile-command 'make lock' \
		requirements/peers.in -o requirements/peers.lock

$(UV):
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(None if ok else \
		f"Farmy needs Python 3.11 to 3.13, found {sys.version.split()[0]}: set PYTHON=python3.12, say.")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check uv

$(VENV)/.runtime: requirements/runtime.lock pyproject.toml | $(UV)
	@echo 'Installing Farmy into $(VENV) ...'
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --require-hashes -r requirements/runtime.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --require-hashes -r requirements/dev.lock
	@touch $@

$(LABEL_STUDIO_VENV)/.installed: requirements/label-studio.lock | $(UV)
	@echo 'Installing Label Studio into $(LABEL_STUDIO_VENV) ...'
	@$(PYTHON) -m venv --without-pip $(LABEL_STUDIO_VENV)
	@VIRTUAL_ENV=$(LABEL_STUDIO_VENV) $(UV) pip install -q --require-hashes -r requirements/label-studio.lock
	@touch $@

$(PEERS_VENV)/.installed: requirements/peers.lock | $(UV)
	@echo 'Installing what the benchmarks compare with into $(PEERS_VENV) ...'
	@$(PYTHON) -m venv --without-pip $(PEERS_VENV)
	@VIRTUAL_ENV=$(PEERS_VENV) $(UV) pip install -q --require-hashes -r requirements/peers.lock
	@touch $@
