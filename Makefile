# Every target is one signcache command; `make` lists them.
VENV ?= .venv
DATASET ?= lis
MODEL ?= lstm_late
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
export PYTHONPATH := $(CURDIR)
BIN := $(VENV)/bin
RUN_SIGNCACHE := $(BIN)/python -m pipeline
READY := $(if $(filter .venv,$(VENV)),.venv/.installed)
SETS = $(foreach pair,$(SET),--set '$(pair)')
PLACE = $(if $(ROOT),--root "$(ROOT)")
EXTRACT_OPTIONS = $(SETS) $(PLACE) $(if $(STORE),--store $(STORE)) $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS))
TRAIN_OPTIONS = $(SETS) $(PLACE) $(if $(SEED),--seed $(SEED)) $(if $(FOLDS),--folds $(FOLDS)) $(if $(DEVICE),--device $(DEVICE))
.DEFAULT_GOAL := help
.PHONY: help setup demo manifest plan extract status finetune train evaluate report bench lock test lint clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'Variables: DATASET CORPUS STAGE MODEL ROOT SPLIT SET STORE DEVICE WORKERS SEED FOLDS RUN ONLY VENV'
	@echo 'e.g. make extract DATASET=lis ROOT=/data/lis STAGE=resnet50 SET="max_frames=60 precision=bfloat16"'

.venv/.installed: pyproject.toml .requirements.txt
	@test -n "$(PYTHON)" || { echo 'signcache: no Python 3.11 or 3.12 found; install one, or give it: make setup PYTHON=/path/to/python3.12' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@echo 'signcache: installing the versions that .requirements.txt names: about 4 GB to fetch, 7 GB in .venv, most of it torch'
	-.venv/bin/python -m pip install --quiet uv
	.venv/bin/python -m $$(.venv/bin/python -m uv --version >/dev/null 2>&1 && echo uv) pip install -r .requirements.txt --no-deps --editable .
	@touch $@

setup: $(READY)  ## create .venv and install everything (about 7 GB)

demo: $(READY)  ## draw a small corpus, extract, train, and score an unseen signer
	$(RUN_SIGNCACHE) manifest demo
	$(RUN_SIGNCACHE) extract demo
	$(RUN_SIGNCACHE) train demo lstm_late
	$(RUN_SIGNCACHE) train demo bilstm_attention

manifest: $(READY)  ## list the clips of DATASET (CORPUS, ROOT, SPLIT, SEED)
	$(RUN_SIGNCACHE) manifest $(DATASET) $(if $(CORPUS),--corpus $(CORPUS)) $(PLACE) $(if $(SPLIT),--split $(SPLIT)) $(if $(SEED),--seed $(SEED))

plan: $(READY)  ## say what extract would do, and why (DATASET, STAGE, SET)
	$(RUN_SIGNCACHE) plan $(DATASET) $(STAGE) $(SETS) $(PLACE)

extract: $(READY)  ## rebuild what is missing or stale in the cache (DATASET, STAGE, SET, STORE, DEVICE)
	$(RUN_SIGNCACHE) extract $(DATASET) $(STAGE) $(EXTRACT_OPTIONS)

status: $(READY)  ## what is published, stale and failed
	$(RUN_SIGNCACHE) status $(if $(filter command line,$(origin DATASET)),$(DATASET))

finetune: $(READY)  ## train the network of STAGE on the clips of DATASET (SET, SEED, FOLDS, DEVICE)
	$(RUN_SIGNCACHE) finetune $(DATASET) $(STAGE) $(TRAIN_OPTIONS)

train: $(READY)  ## train MODEL on the cache of DATASET (SET, SEED)
	$(RUN_SIGNCACHE) train $(DATASET) $(MODEL) $(TRAIN_OPTIONS)

evaluate: $(READY)  ## score RUN (SPLIT)
	$(RUN_SIGNCACHE) evaluate "$(RUN)" $(if $(SPLIT),--split $(SPLIT))

report: $(READY)  ## write the report page of RUN again; several runs are compared
	$(RUN_SIGNCACHE) report $(RUN)

bench: $(READY)  ## time every promise beside its rival (ONLY=reader|train|extract|threads|plan|live|serve|export)
	$(BIN)/python -m tests.bench $(ONLY)

lock: $(READY)  ## name the newest versions that pyproject.toml allows in .requirements.txt
	$(BIN)/python -m uv pip compile --quiet --upgrade --universal --no-annotate --extra test --extra language --extra export --extra serve --extra explain --extra remote --custom-compile-command 'make lock' -o .requirements.txt pyproject.toml

test: $(READY)  ## run the tests (ONLY=expression picks some)
	$(BIN)/python -m pytest $(if $(ONLY),-k "$(ONLY)")

lint: $(READY)  ## ruff, mypy --strict, import-linter
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

clean:  ## remove caches of the tools; features, runs and data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
