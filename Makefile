# Everything is installed into .venv by `make setup`; `.venv/bin/comity` is the command.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python
RUN_STAMP := $(VENV)/.runs
STAMP := $(VENV)/.installed
PACKAGES := comity policies audit identity broker node cli
UV := UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never $(BIN)/uv --quiet --system-certs

.DEFAULT_GOAL := help
.PHONY: help setup protos protos-check image lock fmt lint types imports docs audit-deps test check bench verifier wheel demo soak conformance clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: $(STAMP)  ## Install everything into .venv

# What it takes to run Comity; the rest is for testing it.
$(RUN_STAMP): requirements/run.txt requirements/setup.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "apt-get install -y python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@$(UV) pip install --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP): $(RUN_STAMP) requirements/dev.txt
	@$(UV) pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

protos: setup  ## Generate the stubs in comity/v1 from protos
	$(RUN) -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/comity/v1/*.proto

protos-check: setup
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/comity.v1.binpb
	@rm -rf $(VENV)/stubs && mkdir -p $(VENV)/stubs
	@$(RUN) -m grpc_tools.protoc -I protos --python_out=$(VENV)/stubs --grpc_python_out=$(VENV)/stubs --mypy_out=quiet:$(VENV)/stubs --mypy_grpc_out=quiet:$(VENV)/stubs protos/comity/v1/*.proto
	@diff -r -x __init__.py -x __pycache__ $(VENV)/stubs/comity/v1 comity/v1 || { echo "comity/v1 differs from protos: run make protos"; exit 1; }

image: setup  ## Take the protos as they are as the ones not to break
	$(BIN)/buf build -o protos/comity.v1.binpb

lock: setup  ## Resolve the dependencies anew
	cd requirements && for f in run:'' dev:'--extra dev'; do ../$(BIN)/uv pip compile -q --system-certs --universal --generate-hashes --no-header --no-annotate --python-version 3.11 $${f#*:} ../pyproject.toml -o $${f%%:*}.txt; done
	cd requirements && ../$(BIN)/uv pip compile -q --system-certs --universal --generate-hashes --no-header --no-annotate --python-version 3.11 setup.in -o setup.txt

fmt: setup  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/bandit -q -c pyproject.toml -r $(PACKAGES)
	@! grep -nE '://|--(extra-)?index-url' requirements/*.txt || { echo "requirements name an address"; exit 1; }

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

docs: setup  ## Check the documents against the program
	$(BIN)/python -m pytest -q tests/docs

check: lint types imports protos-check docs  ## Lint, types, imports, protos, docs

test: setup  ## Run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/docs tests $(ARGS)

demo: $(RUN_STAMP)  ## Run the sample federation and its story of searches
	$(BIN)/comity demo run

bench: setup  ## Run the benchmarks; NAME=search runs one
	@for b in $(or $(NAME),$(patsubst bench/%.py,%,$(shell grep -l '__main__' bench/*.py))); do $(BIN)/python -m bench.$$b || exit 1; done

soak: setup  ## The long runs
	$(BIN)/python -m pytest -q -m soak --timeout 3600 tests

conformance: setup  ## Public proof vectors: VECTORS=DIR
	@test -n "$(VECTORS)" || { echo "name their folder: make conformance VECTORS=DIR"; exit 1; }
	VECTORS="$(VECTORS)" $(BIN)/python -m pytest -q tests/conformance

# Offline: the packages' source ships with the Go toolchain, which is among the development dependencies.
verifier: setup  ## Build .venv/verifier/verify, which checks published logs with Go's own packages
	@go=$$($(BIN)/python -c 'import go; print(go.__path__[0])') && mod=$(VENV)/verifier/mod && rm -rf $(VENV)/verifier && \
	mkdir -p $$mod/sumdb && cp tests/go/verify.go tests/go/go.mod $(VENV)/verifier && \
	cp -r $$go/src/cmd/vendor/golang.org/x/mod/sumdb/{note,tlog} $$mod/sumdb && \
	printf 'module golang.org/x/mod\n\ngo 1.24\n' > $$mod/go.mod && cd $(VENV)/verifier && \
	GOROOT=$$go GOPROXY=off GOFLAGS=-mod=mod GOTOOLCHAIN=local CGO_ENABLED=0 $$go/bin/go build -o verify .

wheel: setup  ## Build the wheel into dist
	$(BIN)/python -m hatchling build -t wheel

clean:  ## Remove what was made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
