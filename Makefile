# `make` alone lists the targets. Every target that needs Python builds .venv first, once.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Settings, each can be given on the command line: make train CONFIG=configs/movielens.yaml
CONFIG  ?= configs/shop.yaml
DATA    ?=
SET     ?=
ARGS    ?=
MODEL   ?= saved_models/shop
USER_ID ?=
HISTORY ?=
QUERY   ?=
K       ?= 10

# A query is free text. It reaches the shell through the environment, so a quote or a dollar in it is only a letter.
override QUERY := $(value QUERY)
export CONFIG DATA MODEL USER_ID HISTORY QUERY K

BIN   := .venv/bin
READY := .venv/.installed
INPUTS := setup.cfg pyproject.toml constraints.txt

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	if "$$p" -c '$(SUPPORTED)' 2>/dev/null; then echo "$$p"; exit; fi; done; echo python3)

OVERRIDES = $(if $(DATA),--set "data.path=$$DATA") $(foreach pair,$(SET),--set '$(pair)') $(ARGS)

.PHONY: help install validate train evaluate export recommend notebooks test test-quick coverage lint format types clean distclean

# Tests without a training: formulas, features, index, tables and configuration.
QUICK := -m "not slow" $(addprefix tests/,candidates data/parsing data/reading docs features index losses metrics \
	test_config.py test_config_view.py test_house.py test_import.py test_log.py test_registry.py test_spelling.py)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  CONFIG=configs/shop.yaml   the system to work on (validate, train, evaluate, export)'
	@echo '  DATA=path                  your data in place of what the config names'
	@echo '  SET="key=value ..."        any other settings of the config'
	@echo '  ARGS="..."                 passed to the command as it is'

install: $(READY) ## build the environment in .venv; nothing to do when it is up to date
	@echo 'tfrec: .venv/bin/tfrec is ready; the next step is make train'

validate: $(READY) ## check the data of CONFIG and tell all problems at once
	@$(BIN)/tfrec validate "$$CONFIG" $(OVERRIDES)

train: $(READY) ## run every stage of CONFIG: data, training, evaluation, export
	@$(BIN)/tfrec train "$$CONFIG" $(OVERRIDES)

evaluate: $(READY) ## measure the trained model of CONFIG
	@$(BIN)/tfrec evaluate "$$CONFIG" $(OVERRIDES)

export: $(READY) ## write the SavedModel of CONFIG to saved_models/
	@$(BIN)/tfrec export "$$CONFIG" $(OVERRIDES)

recommend: $(READY) ## ask a SavedModel: MODEL= USER_ID= HISTORY="i1 i2" QUERY="..." K=
	@set -- --model "$$MODEL" -k "$$K"; \
	if [ -n "$$USER_ID" ]; then set -- "$$@" --user "$$USER_ID"; fi; \
	if [ -n "$$HISTORY" ]; then set -- "$$@" --history "$$(printf '%s' "$$HISTORY" | tr -s ' ' ',')"; fi; \
	if [ -n "$$QUERY" ]; then set -- "$$@" --query "$$QUERY"; fi; \
	exec $(BIN)/tfrec recommend "$$@" $(ARGS)

notebooks: $(READY) ## execute the notebooks; the results go to build/notebooks/
	@mkdir -p build/notebooks
	@$(BIN)/jupyter-execute --output='../build/notebooks/{notebook_name}' $(ARGS) notebooks/*.ipynb

test: $(READY) ## run the tests in two processes; ARGS="-k index" runs some of them
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-quick: $(READY) ## run the tests that train nothing, in two minutes
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(QUICK) $(ARGS)

coverage: $(READY) ## measure which lines the quick tests run; fails below the floor in setup.cfg
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-report term:skip-covered $(QUICK) $(ARGS)

lint: $(READY) ## check style, format and spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

format: $(READY) ## put style and format right
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

types: $(READY) ## check the types
	@$(BIN)/python -m mypy tfrec

clean: ## remove caches, build/ and runs/; saved_models/ and .venv stay
	rm -rf build dist runs .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name .venv -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv

# The stamp holds a checksum of its inputs and is written last. An interrupted install leaves none; files that a
# checkout only gave a new date cost nothing.
$(READY): $(INPUTS)
	@sum=$$(cat $(INPUTS) | cksum); \
	if [ -x $(BIN)/tfrec ] && [ "$$(cat $@ 2>/dev/null)" = "$$sum" ]; then touch $@; exit 0; fi; \
	if ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
		found=$$("$(PYTHON)" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null || echo missing); \
		echo "tfrec: Python 3.11 or 3.12 is needed, $(PYTHON) is $$found. Try: make install PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	rm -f $@; \
	start=$$(date +%s); \
	if $(BIN)/python -c '$(SUPPORTED)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "tfrec: bringing the environment in .venv up to date ..."; \
	else \
		echo "tfrec: building the environment in .venv (first time only, 2 to 5 minutes) ..."; \
		"$(PYTHON)" -m venv --clear .venv || exit 1; \
	fi; \
	if [ -t 1 ]; then \
		$(BIN)/python -m pip --disable-pip-version-check --log .venv/install.log install -e '.[dev]' -c constraints.txt; \
	else \
		$(BIN)/python -m pip --disable-pip-version-check install --progress-bar off -e '.[dev]' -c constraints.txt \
			>.venv/install.log 2>&1 </dev/null; \
	fi || { \
		echo "tfrec: the install failed after $$(($$(date +%s) - start)) s. The end of .venv/install.log:" >&2; \
		tail -n 20 .venv/install.log >&2; \
		exit 1; \
	}; \
	printf '%s\n' "$$sum" >$@; \
	echo "tfrec: the environment is ready ($$(($$(date +%s) - start)) s)"
