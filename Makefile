# Every target does its own set-up. `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo demo-production dev test test-gpu-worker bench-gpu lint types unit fuzz mutants coverage faults hostile bench load soak scale scale-measured handbook manifests-audit audit images images-gpu format clean

help:
	@echo "make demo                     run the whole line once on this machine and print what it made"
	@echo "make demo VIDEOS=\"a.mp4 b.mov\"  the same on your own files"
	@echo "make demo-production          the same on Postgres, PgBouncer, Redis and an S3 server of its own"
	@echo "make dev                      start the Dagster UI, daemon, sandbox and gateway until Ctrl-C"
	@echo "make test                     lint, types and all tests"
	@echo "make test-gpu-worker          the GPU worker's tests alone: tiny models on this machine's processor"
	@echo "make bench-gpu                time the GPU worker with a full-size model; without a GPU, rehearse it"
	@echo "make fuzz                     random recipes, hostile messages, files and forms at length (RANDOM_RECIPES=50 FUZZ_EXAMPLES=500 for less)"
	@echo "make mutants                  change the ledger, slots, books and quota a little; a test must fail (MUTANTS=30 of each for less)"
	@echo "make coverage                 run all tests but the browser's and count the branches they take, by room"
	@echo "make hostile                  send some 150 hostile uploads through the line; a table of what became of each"
	@echo "make faults                   every fault, from kill -9 at every point to a full disk, and a table of what held"
	@echo "make bench                    print the benchmark tables"
	@echo "make handbook                 make the pictures of docs/filters.md and docs/handbook again"
	@echo "make load                     mixed requests on two gateways with Postgres, also in bad conditions"
	@echo "make soak                     the same for half an hour, watching memory (SOAK_MINUTES=5 for less)"
	@echo "make scale                    make the tables of docs/scale.md again"
	@echo "make scale-measured           count what a video costs the servers, then make those tables (five minutes)"
	@echo "make manifests-audit          check the manifests and Dockerfiles with checkov"
	@echo "make audit                    ask what is known against the pinned packages, and list licences"
	@echo "make images                   build the image with podman where no registry is reached, and play the dev overlay with it"
	@echo "make images-gpu               the same for the GPU worker's image, with one tiny clip on this processor"
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

demo-production: $(VENV)/.installed-dev
	@scripts/install_test_servers.sh
	@$(BIN)/python -m ettametta_pipelines_tests.production $(VIDEOS)

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
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000} $(BIN)/pytest -n $${PYTEST_WORKERS:-auto} --timeout=3600 -m fuzz

# Of `mutants/` only this copy of the code is changed.
mutants: $(VENV)/.installed-dev
	$(BIN)/python -m ettametta_pipelines_tests.mutants --workers $${PYTEST_WORKERS:-2} --each $${MUTANTS:-120}

coverage: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	@mkdir -p bench
	$(BIN)/pytest -n $${PYTEST_WORKERS:-auto} --cov --cov-report= --ignore=ettametta_pipelines_tests/browser
	$(BIN)/python -m ettametta_pipelines_tests.coverage_by_room

faults: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/python -m ettametta_pipelines_tests.faults.table

hostile: $(VENV)/.installed-dev
	$(BIN)/python -m ettametta_pipelines_tests.faults.hostile

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

load: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/python -m ettametta_pipelines_tests.load

soak: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/python -m ettametta_pipelines_tests.load --soak $${SOAK_MINUTES:-30}

scale: $(VENV)/.installed-dev
	$(BIN)/python -m ettametta_pipelines_tests.load.scale

scale-measured: $(VENV)/.installed-dev
	scripts/install_test_servers.sh
	$(BIN)/python -m ettametta_pipelines_tests.load.measure
	$(BIN)/python -m ettametta_pipelines_tests.load.scale

handbook: $(VENV)/.installed-dev
	$(BIN)/python scripts/filter_pictures.py docs/filters
	$(BIN)/python scripts/handbook_pictures.py docs/handbook/pictures

# checkov asks for older packages than ours and has an environment of its own.
AUDIT := .venv-audit
$(AUDIT)/.installed: | $(BIN)/python
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -qq checkov==3.3.30
	@touch $@

manifests-audit: $(AUDIT)/.installed
	@for overlay in dev staging production; do \
	  rendered=$$(mktemp --suffix=.yaml) && kubectl kustomize k8s/overlays/$$overlay >$$rendered && echo "$$overlay:" && \
	  $(AUDIT)/bin/checkov --config-file k8s/checkov.yaml --file $$rendered Dockerfile Dockerfile.gpu || exit 1; \
	  rm $$rendered; \
	done

# Tools of their own environment. Where they cannot be had, that is said, and nothing counts as audited.
SUPPLY := .venv-supply
$(SUPPLY)/.installed: | $(BIN)/python
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install -qq pip-audit==2.10.1 pip-licenses==5.5.5
	@touch $@

audit: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory $(SUPPLY)/.installed || \
	  { echo "NOT AUDITED: pip-audit could not be installed"; exit $(if $(AUDIT_STRICT),1,0); }; \
	  $(SUPPLY)/bin/python scripts/audit.py $(if $(AUDIT_STRICT),--strict) && \
	  $(SUPPLY)/bin/pip-licenses --python $(BIN)/python --summary --order=count

# For root, with podman, buildah, runc, catatonit, debootstrap and iproute2.
images: $(VENV)/.installed-dev
	scripts/build_images.sh pipelines servers
	$(BIN)/python scripts/play_overlay.py

images-gpu: $(VENV)/.installed-dev
	scripts/build_images.sh gpu
	$(BIN)/python scripts/try_gpu_image.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) $(GPU) $(AUDIT) $(SUPPLY) mutants .mypy_cache .ruff_cache
