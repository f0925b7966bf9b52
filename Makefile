# Every target does its own set-up and is safe to repeat.
PYTHON ?= python3
VENV := .venv
RAY_VENV ?= .venv-ray
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
# Tests must not pass, slowly, on numpy because the kernels silently did not build.
check unit test test-fronts front-short without-kernels lint sanitize sanitize-front fuzz fuzz-frames bench: export TAPER_REQUIRE_NATIVE := 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-web fleet check unit test test-fronts front-short without-kernels lint sanitize sanitize-front fuzz fuzz-frames fuzz-fleet soak chaos chaos-20 containers containers-ray containers-upgrade ray aarch64 boards web web-types web-check bench train reproduce screenshots lock audit licences sbom protos clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What is installed depends on these files alone; Python code is used from the checkout.
INSTALLED := pyproject.toml constraints.txt CMakeLists.txt $(wildcard shared/packed/native/* cloud/native/*.?pp)

# Built in this environment, not an isolated one: then build/ is kept, and a wheel compiles nothing.
BUILD := scikit-build-core nanobind cmake ninja

$(VENV)/.runtime: $(INSTALLED) | $(BIN)/python
	$(PIP) $(BUILD)
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(INSTALLED) | $(BIN)/python
	scripts/system-deps test
	$(PIP) $(BUILD)
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## a real server and client over real test digits, one table
	$(BIN)/python scripts/demo.py

check: $(VENV)/.dev ## lint, types, unit and property tests: before every commit, under a minute
	$(MAKE) --no-print-directory --jobs 2 --output-sync=recurse lint unit

# The tests of one file stay in one process, with the servers that they share.
PARALLEL := -n 2 --dist loadfile
COVERAGE := --cov --cov-report=

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -q $(PARALLEL) tests/unit tests/property

test: $(VENV)/.dev ## lint, sanitizers, all tests, coverage: what CI runs
	$(MAKE) --no-print-directory --jobs 2 --output-sync=recurse lint sanitize without-kernels
	$(BIN)/python -m pytest $(PARALLEL) -m "not alone" --durations 10 $(COVERAGE)
	$(BIN)/python -m pytest -m alone --durations 10 $(COVERAGE) --cov-append
	$(BIN)/coverage report
	$(MAKE) --no-print-directory front-short

# Tests that start a server, by what they import or name. Without libgrpc++ there is no native front.
SERVED := $(shell grep -lrE 'support\.(served|attacked|sites|playgrounds)|tests\.chaos|start_server|: Server\b|cloud\.serv|fuzz_frames' \
    tests/attacks tests/e2e tests/integration --include='test_*.py')
SERVED_SHORT := $(addprefix tests/integration/cloud/,test_gate.py test_looks.py test_open_inference.py test_refusals.py) \
    tests/attacks/test_frames.py
HAS_FRONT := $(BIN)/python -c 'import cloud.native._front'

test-fronts: $(VENV)/.dev ## the tests that start a server once more, with the native front
	$(HAS_FRONT)
	TAPER_FRONT=native $(BIN)/python -m pytest $(PARALLEL) -m "not alone" --durations 10 $(SERVED)
	TAPER_FRONT=native $(BIN)/python -m pytest -m alone --durations 10 $(SERVED)

front-short: $(VENV)/.dev
	if $(HAS_FRONT) 2>/dev/null; then TAPER_FRONT=native $(BIN)/python -m pytest -q $(PARALLEL) $(SERVED_SHORT); \
	else echo "not tested: the native front, which needs scripts/system-deps front"; fi

without-kernels: $(VENV)/.dev
	TAPER_KERNEL=numpy $(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/shared/packed/test_native.py tests/e2e/test_commands.py

lint: $(VENV)/.dev ## ruff, mypy, import contracts, structure, protocol files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/structure.py --check
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.json
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/generate-protos --check

sanitize: $(VENV)/.dev ## the kernels under address, undefined-behaviour and thread sanitizers
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/sanitize

sanitize-front: $(VENV)/.dev ## drain ROUNDS (10) loaded servers of the native front under address and undefined-behaviour sanitizers
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/sanitize --front $(or $(ROUNDS),10)

fuzz: $(VENV)/.dev ## fuzz the binding of the kernels for a minute
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/fuzz-kernels 60

fleet: $(VENV)/.dev ## a broker, a server, 50 devices, a recorder and the dashboard, until Ctrl-C
	scripts/system-deps broker
	$(BIN)/python scripts/fleet.py

demo-web: $(VENV)/.dev web ## a broker, a server, the dashboard and the playground, until Ctrl-C
	scripts/system-deps broker
	$(BIN)/python scripts/demo_web.py

fuzz-fleet: $(VENV)/.dev ## send 100,000 hostile messages to the programs of a running fleet
	scripts/system-deps broker
	$(BIN)/python -m tests.attacks.fuzz_fleet --messages 100000

fuzz-frames: $(VENV)/.dev ## send 100,000 hostile frames through a real server
	$(BIN)/python -m tests.attacks.fuzz_frames --frames 100000

chaos: $(VENV)/.dev ## kill programs and break networks for SECONDS (120), then audit; CONTAINERS=1: in containers
	scripts/system-deps broker
	$(if $(CONTAINERS),$(BIN)/python -m tests.containers --chaos $(BIN)/python -m tests.containers.chaos,$(BIN)/python -m tests.chaos) \
	    --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED))

chaos-20: $(VENV)/.dev ## 20 short runs of chaos with different seeds
	scripts/system-deps broker
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),12) --runs 20 --seed $(or $(SEED),1)

containers: $(VENV)/.dev ## build the images, run deploy/compose.yaml in containers, break them; ten minutes
	scripts/system-deps broker
	docker info >/dev/null 2>&1 || scripts/system-deps containers
	$(BIN)/python -m tests.containers

containers-ray: $(VENV)/.dev ## a Ray cluster of three containers: a worker is killed, another one joins
	docker info >/dev/null 2>&1 || scripts/system-deps containers
	$(BIN)/python -m tests.containers --ray $(BIN)/python -m pytest -q tests/containers/test_ray_cluster.py

containers-upgrade: $(VENV)/.dev ## upgrade a running deployment of the last release to this checkout
	scripts/system-deps broker
	docker info >/dev/null 2>&1 || scripts/system-deps containers
	$(BIN)/python -m tests.containers --upgrade $(BIN)/python -m pytest -q --capture no tests/containers/test_upgrade.py

ray: $(VENV)/.dev ## replicas on Ray Serve: one is killed, one is added; RAY_VENV names an environment
	test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[ray]'
	TAPER_RAY=$(abspath $(RAY_VENV)) $(BIN)/python -m pytest tests/e2e/test_ray.py

aarch64: $(VENV)/.dev ## for Arm, in an emulator: the kernels' self-test, and the device against a server (root)
	scripts/test-aarch64
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/test-aarch64-device

boards: $(VENV)/.dev ## the C engine on five emulated boards, 1,000 test images each
	scripts/system-deps boards
	$(BIN)/python -m cloud.training.datasets fetch mnist
	$(BIN)/python -m tests.benchmarks.micro --full --json

# Files of cloud/playground that are made, not kept.
PAGE := cloud/playground/static/device

web: $(VENV)/.runtime ## build the playground's WebAssembly module and model
	scripts/system-deps web
	$(BIN)/python -m device.web --output $(PAGE)

web-types: web ## check the types of the JavaScript with tsc, fetched by npm
	npm exec --yes --package typescript@5.9.3 -- tsc --project device/web

web-check: $(VENV)/.dev ## the playground's long tests, and 1,000 test images in Node and Chromium
	scripts/system-deps web
	TAPER_WEB=full $(BIN)/python -m pytest -q tests/integration/playground tests/integration/device/test_web.py
	$(BIN)/python -m cloud.training.datasets fetch mnist
	$(BIN)/python -m tests.benchmarks.web --full --json

soak: $(VENV)/.dev ## ten minutes of load and 400 reloads, memory watched, then rolling restarts
	$(BIN)/python -m tests.benchmarks.soak --seconds 600 --reloads 400 --json

bench: $(VENV)/.dev ## print the benchmarks' tables
	$(BIN)/python -m tests.benchmarks.kernels
	$(BIN)/python -m tests.benchmarks.accuracy
	$(BIN)/python -m tests.benchmarks.wire
	$(BIN)/python -m tests.benchmarks.device

BUNDLES := shared/bundles
NETS := checkpoints/nets

train: $(VENV)/.dev ## train the shipped bundles again: MINUTES (9, on a GPU) for each; resumable
	for data in mnist fashion-mnist cifar10; do $(BIN)/python -m cloud.training.datasets fetch $$data || exit; done
	$(BIN)/python -m cloud.training.flagships --output $(NETS) --minutes $(or $(MINUTES),9)
	for name in mnist-binary fashion-binary cifar10-binary; do $(BIN)/python -m cloud.training.train \
	    --from $(NETS)/$$name.net.safetensors --output $(BUNDLES)/$$name.safetensors || exit; done
	$(BIN)/python -m cloud.training.train --network paper --data mnist --augment none --pairs grid \
	    --output $(BUNDLES)/mnist-binary-paper.safetensors --checkpoint checkpoints/mnist-binary-paper.pt

reproduce: $(VENV)/.dev ## run the paper's experiments again (many hours; resumable)
	$(BIN)/python -m cloud.training.datasets fetch mnist
	$(BIN)/python -m cloud.training.datasets fetch cifar10
	$(BIN)/python -m cloud.training.reproduce all

screenshots: $(VENV)/.dev ## take the pictures of the dashboard again
	$(BIN)/python -m tests.screenshots

$(VENV)/.release: $(VENV)/.dev
	$(PIP) --editable '.[dev,release]'
	touch $@

lock: $(VENV)/.release ## write the hashes of what each role installs
	PYTHON=$(BIN)/python scripts/lock-requirements

audit: $(VENV)/.release ## known vulnerabilities of what is installed; needs a vulnerability service
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r deploy/requirements/operations.txt

sbom: $(VENV)/.release ## write dist/IMAGE.cdx.json: the packages of each image, as CycloneDX
	mkdir -p dist
	for image in device agent cloud operations ray; do $(BIN)/cyclonedx-py requirements deploy/requirements/$$image.txt \
	    --pyproject pyproject.toml --output-file dist/$$image.cdx.json || exit; done

licences: $(VENV)/.release ## write docs/licences.md
	PYTHON=$(BIN)/python scripts/list-licences

protos: $(VENV)/.dev ## generate code from the .proto files
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/generate-protos

clean: ## remove everything that the targets made
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
