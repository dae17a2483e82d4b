# Every target does its own set-up. `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo dev test test-gpu-worker bench-gpu lint types unit fuzz faults bench handbook format clean

help:
	@echo "make demo                     run the whole line once on this machine and print what it made"
	@echo "make demo VIDEOS=\"a.mp4 b.mov\"  the same on your own files"
	@echo "make dev                      start the Dagster UI, daemon, sandbox and gateway until Ctrl-C"
	@echo "make test                     lint, types and all tests"
	@echo "make test-gpu-worker          the GPU worker's tests alone: tiny models on this machine's processor"
	@echo "make bench-gpu                time the GPU worker with full-size models, where there is a GPU"
	@echo "make fuzz                     render 200 random recipes and check each (RANDOM_RECIPES=50 for fewer)"
	@echo "make faults                   kill publications and paid clips at every point, under every fault; race for slots"
	@echo "make bench                    print the benchmark tables"
	@echo "make handbook                 make the pictures of docs/filters.md again"
	@echo "make format                   format the code"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py constraints.txt | $(BIN)/python
	@echo "Installing pinned packages into $(VENV) ..."
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/ettametta demo $(VIDEOS)

dev: $(VENV)/.installed
	@$(BIN)/ettametta dev

test: lint types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The GPU worker's environment: torch and diffusers, and nothing of Dagster but Pipes.
GPU := .venv-gpu
$(GPU)/.installed: setup.py constraints-gpu.txt scripts/install_gpu_worker.sh | $(BIN)/python
	PYTHON=$(PYTHON) scripts/install_gpu_worker.sh $(GPU)
	@touch $@

test-gpu-worker: $(VENV)/.installed-dev $(GPU)/.installed
	$(BIN)/pytest ettametta_pipelines_tests/synthesis/gpu

bench-gpu: $(GPU)/.installed
	$(GPU)/bin/python scripts/bench_gpu.py

unit: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/pytest -n $${PYTEST_WORKERS:-auto}

fuzz: $(VENV)/.installed-dev
	RANDOM_RECIPES=$${RANDOM_RECIPES:-200} $(BIN)/pytest -n $${PYTEST_WORKERS:-auto} \
	  ettametta_pipelines_tests/renders/test_random_recipes.py

faults: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/python -m ettametta_pipelines_tests.faults
	$(BIN)/python -m ettametta_pipelines_tests.faults.clips
	RACE_ROUNDS=$${RACE_ROUNDS:-20} $(BIN)/pytest ettametta_pipelines_tests/billing/test_races.py

# MoviePy asks for older packages than ours and has an environment of its own.
PEERS := .venv-peers
$(PEERS)/.installed: ettametta_pipelines_tests/benchmarks/peers.txt | $(BIN)/python
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -qq --requirement $<
	@touch $@

bench: $(VENV)/.installed-dev $(PEERS)/.installed $(GPU)/.installed
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.definitions_load
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.lake
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.discovery
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.resemblance
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.revenue
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.cinematic
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.uploads
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.uploads_to_renditions
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.backfills
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.dev_start
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.automation
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.webhooks
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.publish_queue
	$(BIN)/python -m ettametta_pipelines_tests.benchmarks.gpu_worker
	PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python -m ettametta_pipelines_tests.benchmarks.renders

handbook: $(VENV)/.installed
	$(BIN)/python scripts/filter_pictures.py docs/filters

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) $(GPU) .mypy_cache .ruff_cache
