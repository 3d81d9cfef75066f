# Wraps the commands a developer needs; each sets up what it lacks.
PYTHON = .venv/bin/python
SETUP = VCLONE_SETUP=dev ./vclone --version >/dev/null
# Programs that come with development packages (rclone, moto_server) are found there.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CHECKED = src plugins tests benchmarks dashboard frameworks scripts

.DEFAULT_GOAL := help
.PHONY: help setup up test lint format bench docs

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup:  ## Make the development environment in .venv
	@$(SETUP)

up: setup  ## Run the whole platform on this machine
	@./vclone up

test: setup  ## Run the tests; PYTEST holds more options
	@$(PYTHON) -m pytest -q $(PYTEST)

lint: setup  ## Check style, types and the direction of imports
	@$(PYTHON) -m ruff check $(CHECKED)
	@$(PYTHON) -m ruff format --check $(CHECKED)
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

format: setup  ## Rewrite the code in its layout
	@$(PYTHON) -m ruff format $(CHECKED)
	@$(PYTHON) -m ruff check --fix $(CHECKED)

bench: setup  ## Time whole deploys and switches; prints the machine
	@$(PYTHON) benchmarks/whole_platform.py

docs: setup  ## Write the documentation's lists from the code, and check the rest of it
	@$(PYTHON) scripts/docs.py
	@$(PYTHON) -m pytest -q tests/docs
