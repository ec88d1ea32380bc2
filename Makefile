# ovnkit: the commands of the house. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo test test-fast bench bench-cni bench-loss bench-quick soak oracle lint clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## install what is missing: system packages, OVN, .venv with the ovnkit command
	@scripts/setup-system
	@$(BIN)/python -m ovnkit.testing.installs

$(STAMP): pyproject.toml scripts/setup-venv
	@scripts/setup-venv $(VENV)
	@touch $@

demo: setup  ## a two-node lab cluster and a table of who reaches whom (DEMO_ARGS="--example services": another example)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ovnkit lab demo $(DEMO_ARGS)

test: setup  ## the whole suite, each plugin's own included
	@scripts/run-tests $(BIN) $(TEST_ARGS)

test-fast: $(STAMP)  ## while editing: tests without labs, daemons and root (PLUGIN=pods for one plugin, PLUGIN=core)
	@scripts/test-fast $(BIN) $(PLUGIN)

bench: setup  ## how fast it is, each figure against a floor of the same run (half an hour; BENCH_ARGS="--scale 0.1")
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-quick: setup  ## the same on a small load, under a minute; fails when something is ten times too slow
	@$(BIN)/python -m bench --quick $(BENCH_ARGS)

bench-loss: setup  ## packets lost while vswitchd, ovn-controller or ovnkit of a node restarts (about 3 minutes)
	@$(BIN)/python -m bench.loss $(BENCH_ARGS)

bench-cni: setup  ## how long CNI ADD takes, 50 at once and one at a time, beside the same by hand (about 3 minutes)
	@$(BIN)/python -m bench.cni $(BENCH_ARGS)

oracle: setup  ## NetworkPolicy against the oracle of its specification, many more cases than in the suite (15 minutes)
	@OVNKIT_ORACLE_CLUSTERS=400 OVNKIT_ORACLE_LAB=40 $(BIN)/pytest -q -s plugins/network_policy/tests -k specification

soak: setup  ## 30 minutes of churn in a lab with daemons killed at random, then a comparison (SOAK_MINUTES=5)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.soak $(SOAK_ARGS)

lint: $(STAMP)  ## ruff, mypy strict, vulture (dead code), import-linter
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "ruff format --check" && $(BIN)/ruff format --check .
	@echo "mypy --strict" && scripts/run-mypy $(BIN)
	@echo "vulture" && $(BIN)/vulture
	@echo "lint-imports" && $(BIN)/python scripts/lint-imports

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
