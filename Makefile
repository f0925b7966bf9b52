# Every target does its own set-up and is safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint train protos clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What is installed depends on these files alone; Python code is used from the checkout.
INSTALLED := pyproject.toml constraints.txt CMakeLists.txt $(wildcard shared/packed/native/*)

$(VENV)/.runtime: $(INSTALLED) | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(INSTALLED) | $(BIN)/python
	scripts/system-deps test
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## a real server and client over real test digits, one table
	$(BIN)/python scripts/demo.py

test: lint ## lint, types, import contracts and all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## ruff, mypy, import contracts, protocol files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/generate-protos --check

train: $(VENV)/.dev ## train the shipped bundles again (hours; resumable)
	$(BIN)/python -m cloud.training.datasets fetch mnist
	$(BIN)/python -m cloud.training.train --network paper --data mnist --augment none \
	    --output shared/bundles/mnist-binary-paper.safetensors \
	    --checkpoint checkpoints/mnist-binary-paper.pt --resume

protos: $(VENV)/.dev ## generate code from the .proto files
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/generate-protos

clean: ## remove everything that the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
