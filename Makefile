# Every target sets itself up: `make demo` and `make test` work in a fresh clone with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DATA ?= .tollhouse

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check kafka kafka-stop test-kafka schemas lock clean

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with every locked dependency (called by the other targets)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Tollhouse needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup ## Run the whole path on a simulated Anthropic API and check what it cost
	$(BIN)/python -m services.local.demo

run: setup ## Run the local stack on 127.0.0.1:4000 against the real Anthropic API
	$(BIN)/tollhouse up --data-dir $(DATA)

test: setup ## Run every test that needs nothing but this machine
	$(BIN)/python -m pytest -q

check: setup ## ruff, pyright (strict), import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

kafka: setup ## Fetch Apache Kafka and run one node on 127.0.0.1:9092 (build/kafka)
	$(BIN)/python deploy/kafka/node.py start

kafka-stop: setup ## Stop that node
	$(BIN)/python deploy/kafka/node.py stop

test-kafka: setup ## Run the Kafka tests against Apache Kafka, one broker and three (Java 17, Maven)
	$(BIN)/python deploy/kafka/check.py

schemas: setup ## Write JSON Schemas and AsyncAPI anew from the event types
	$(BIN)/python -m schemas.generate

lock: ## Resolve the dependencies anew into requirements.lock (hashes, no index address)
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile pyproject.toml --extra local --group dev --python-version 3.11 --universal \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock

clean: ## Remove the virtual environment, build output and local data
	rm -rf $(VENV) build $(DATA) .pytest_cache .ruff_cache .hypothesis
