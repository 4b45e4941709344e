# Everything a person or CI does with Drover, one target a step. `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup puts cargo here, which a bare shell may not have on its PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

TARGET  := $(or $(CARGO_TARGET_DIR),target)
CARGO   := cargo
GATEWAY := $(TARGET)/quick/drover

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it

.PHONY: demo
demo: build ## Run the gateway on two simulated backends; prints a line to try
	@exec $(GATEWAY) demo

.PHONY: demo-llama
demo-llama: build llama ## Run the gateway on two real llama-servers; prints a line to try
	@set -a; eval "$$(scripts/llama.sh)"; exec python3 scripts/llama_fleet.py demo --gateway $(GATEWAY)

##@ Build

.PHONY: setup
setup: ## Install what a build needs and this machine lacks (cmake, a C compiler)
	@scripts/setup.sh build

.PHONY: setup-test
setup-test: ## Install what the tests need on top (ninja, Python, npm)
	@scripts/setup.sh test

.PHONY: build
build: setup ## Build the optimised binary that demo, tests and benches run
	$(CARGO) build --locked --profile quick --bin drover

.PHONY: llama
llama: ## Build and cache the real llama-server and two small models (about 12 minutes, once)
	@scripts/llama.sh

##@ Check

.PHONY: test
test: setup-test fmt-check clippy unit test-llama ## Everything that must pass: format, lints, unit, integration, real llama-server

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy: setup ## Lint everything, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: unit
unit: setup ## Unit, golden and integration tests
	$(CARGO) test --locked

.PHONY: test-llama
test-llama: setup-test build llama ## The official SDKs through the gateway on real llama-servers
	GATEWAY=$(GATEWAY) scripts/test-llama.sh

.PHONY: nightly
nightly: test ## Long things: everything of `test`, then more cases of the property tests and repeated SDK runs
	PROPTEST_CASES=20000 $(CARGO) test --locked --profile quick
	for round in 1 2 3; do GATEWAY=$(GATEWAY) scripts/test-llama.sh; done

.PHONY: clean
clean: ## Remove what was built here (the caches under ~/.cache/drover stay)
	$(CARGO) clean
