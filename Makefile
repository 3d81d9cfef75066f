# Wraps the commands a developer needs; each sets up what it lacks.
PYTHON = .venv/bin/python
SETUP = VCLONE_SETUP=dev ./vclone --version >/dev/null
# Programs that come with development packages (rclone, moto_server) are found there.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CHECKED = src plugins tests benchmarks dashboard frameworks scripts

OUTSIDE = platform or processes or browser or minio or registry or podman or engine or hypercorn or h2spec or dns
# Outside of both; `make test-builds` runs them.
SLOWEST = builds

.DEFAULT_GOAL := help
.PHONY: help setup up test test-all test-builds lint format lock bench docs

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

setup:  ## Make the development environment in .venv
	@$(SETUP)

up: setup  ## Run the whole platform on this machine
	@./vclone up

test: setup  ## Run the tests that need this machine only; PYTEST holds more options
	@$(PYTHON) -m pytest -q -n 3 --dist loadfile -m "not ($(OUTSIDE) or $(SLOWEST))" $(PYTEST)

test-all: setup  ## Run those that start whole platforms, Chromium, MinIO, Podman, or install from npm
	@$(PYTHON) -m pytest -q -rs -n 3 --dist loadfile --timeout 300 -m "($(OUTSIDE)) and not ($(SLOWEST))" $(PYTEST)

test-builds: setup  ## Install, build and visit real projects; VCLONE_TEST_RUNNER names the runner
	@$(PYTHON) -m pytest -q -s tests/build/test_projects.py $(PYTEST)

lint: setup  ## Check style, types and the direction of imports
	@$(PYTHON) -m ruff check $(CHECKED)
	@$(PYTHON) -m ruff format --check $(CHECKED)
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

format: setup  ## Rewrite the code in its layout
	@$(PYTHON) -m ruff format $(CHECKED)
	@$(PYTHON) -m ruff check --fix $(CHECKED)

LOCK = .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate pyproject.toml --extra build

lock:  ## Write both lock files anew after a change of dependencies
	@$(LOCK) -o requirements.lock
	@$(LOCK) --extra dev -o requirements-dev.lock

SUITE = whole_platform

bench: setup  ## Time whole deploys and switches; SUITE=edge: the edge beside nginx and Caddy, and its other figures
	@$(PYTHON) benchmarks/$(SUITE).py

docs: setup  ## Write the documentation's lists from the code, and check the rest of it
	@$(PYTHON) scripts/docs.py
	@$(PYTHON) -m pytest -q tests/docs
