# Every target sets itself up: `make demo` and `make test` work in a fresh clone with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DATA ?= .tollhouse
CLIENTS := build/clients

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check kafka kafka-stop test-kafka test-clients schemas lock clean bench-rating bench-batches bench-spool bench-local bench-litellm chaos

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

check: setup ## ruff, pyright (strict), import-linter, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check
	$(BIN)/python -m services.cli.config_schema --check

kafka: setup ## Fetch Apache Kafka and run one node on 127.0.0.1:9092 (build/kafka)
	$(BIN)/python deploy/kafka/node.py start

kafka-stop: setup ## Stop that node
	$(BIN)/python deploy/kafka/node.py stop

test-kafka: setup ## Run the Kafka tests against Apache Kafka, one broker and three (Java 17, Maven)
	$(BIN)/python deploy/kafka/check.py
	TOLLHOUSE_REGISTRY_KAFKA=apache $(BIN)/python -m pytest -q tests/integration/edge -k registry
	TOLLHOUSE_CHAOS_KAFKA=apache $(BIN)/python -m pytest -q tests/chaos

bench-rating: setup ## What rating one event costs, decode to encode
	$(BIN)/python -m tests.bench.rating

bench-batches: setup ## Book a batch of 100,000 items: time and memory
	$(BIN)/python -m tests.bench.batches

bench-spool: setup ## What the spool costs an exchange, beside sqlite
	$(BIN)/python -m tests.bench.spool

bench-local: setup ## Measure the local Kafka beside Apache Kafka, and the local ClickHouse (2 min, 6 GB of disk)
	$(BIN)/python -m tests.bench.local_stack

bench-litellm: setup build/litellm/.ready ## CPU of an exchange beside LiteLLM's proxy, which it installs (2 min, 1 GB of disk)
	$(BIN)/python -m tests.bench.litellm

build/litellm/.ready: tests/bench/litellm.lock
	$(PYTHON) -m venv --clear build/litellm
	build/litellm/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/bench/litellm.lock
	@touch $@

test-clients: setup $(CLIENTS)/.ready ## Run the SDKs and Claude Code through the gateway (Node 18, npm; 400 MB)
	TOLLHOUSE_CLIENTS=1 $(BIN)/python -m pytest -q tests/clients

$(CLIENTS)/.ready: tests/clients/package-lock.json tests/clients/python-1.lock
	@command -v npm > /dev/null || { echo 'make test-clients needs Node 18 or newer and npm' >&2; exit 2; }
	npm --prefix tests/clients ci --silent
	$(PYTHON) -m venv --clear $(CLIENTS)/python-1
	$(CLIENTS)/python-1/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/clients/python-1.lock
	@touch $@

chaos: setup ## Kill, freeze and cut everything under load, and count what is missing (SEED=, FAULTS=200, KAFKA=apache)
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(KAFKA),--kafka $(KAFKA))

schemas: setup ## Write JSON Schemas and AsyncAPI anew from the event types, and the schema of tollhouse.yaml
	$(BIN)/python -m schemas.generate
	$(BIN)/python -m services.cli.config_schema

lock: ## Resolve the dependencies anew into requirements.lock (hashes, no index address)
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile pyproject.toml --extra local --group dev --python-version 3.11 --universal \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock
	build/lock/bin/uv pip compile tests/clients/python-1.in --python-version 3.11 --universal \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file tests/clients/python-1.lock
	build/lock/bin/uv pip compile tests/bench/litellm.in --python-version 3.11 --universal \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file tests/bench/litellm.lock
	npm --prefix tests/clients install --package-lock-only --save-exact --silent @anthropic-ai/claude-code@latest @anthropic-ai/sdk@latest

clean: ## Remove the virtual environment, build output and local data
	rm -rf $(VENV) build tests/clients/node_modules $(DATA) .pytest_cache .ruff_cache .hypothesis
