# Everything a person or CI does with Drover, one target a step. `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup puts cargo here, which a bare shell may not have on its PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

TARGET  := $(or $(CARGO_TARGET_DIR),target)
CARGO   := cargo
GATEWAY := $(TARGET)/quick/drover
BENCH   := bench/latency/Cargo.toml
COUNT   := bench/callgrind/Cargo.toml
# Measured turns of each profile and workload of bench-spec.
RUNS    := 8

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
	@scripts/llama.sh >/dev/null
	@echo "llama-server and its models are in $${DROVER_CACHE:-$$HOME/.cache/drover}"

##@ Check

.PHONY: test
test: setup-test fmt-check clippy unit test-streams test-chaos test-prometheus test-traces test-console test-llama test-templates ## Everything that must pass: format, lints, unit, integration, real llama-server

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path $(BENCH)
	$(CARGO) fmt --manifest-path $(COUNT)

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path $(BENCH) --check
	$(CARGO) fmt --manifest-path $(COUNT) --check

.PHONY: clippy
clippy: setup ## Lint everything, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --manifest-path $(BENCH) --target-dir $(TARGET)/bench --all-targets -- -D warnings

.PHONY: unit
unit: setup ## Unit, golden and integration tests
	DROVER_STREAMS=100000 $(CARGO) test --locked
	$(CARGO) test --locked --manifest-path $(BENCH) --target-dir $(TARGET)/bench

.PHONY: test-statistics
test-statistics: setup ## The tests of speculation against chance, in thousands of simulated comparisons and rollouts
	$(CARGO) test --locked --lib -- --include-ignored spec::simulation_tests spec::rollout::simulation_tests spec::class

.PHONY: statistics
statistics: setup ## Write the tables of docs/speculative.md: detection delay, false alarms, rollouts, accuracy of the classes
	UPDATE_DOCS=1 $(CARGO) test --locked --lib simulation_tests::the_documented -- --include-ignored
	UPDATE_DOCS=1 $(CARGO) test --locked --lib spec::class::tests::the_documented -- --include-ignored

.PHONY: test-streams
test-streams: setup-test ## Random streams of the turn loop, read by the official Python SDKs
	scripts/sdk-streams.sh

.PHONY: test-chaos
test-chaos: setup-test build ## Backends killed under load and clients that leave, on simulated servers
	python3 tests/chaos/run.py --gateway $(GATEWAY)

.PHONY: test-prometheus
test-prometheus: setup-test build ## Dashboards and alerts on a real Prometheus, with simulated agents at work and everything going wrong
	python3 dashboards/generate.py --check
	python3 tests/prometheus/run.py --gateway $(GATEWAY)

.PHONY: test-console
test-console: setup-test build ## The console in a real browser, on a gateway under the load of simulated agents
	scripts/console.sh --gateway $(GATEWAY) --screenshots $(TARGET)/console

.PHONY: test-traces
test-traces: setup-test build ## Traces through a real OpenTelemetry collector, their names against the published conventions
	scripts/traces.sh --gateway $(GATEWAY)

.PHONY: console-images
console-images: setup-test build ## Take the pictures of the console for docs/ anew
	scripts/console.sh --gateway $(GATEWAY) --screenshots docs/images

.PHONY: dashboard-images
dashboard-images: setup-test build ## Draw the previews of the dashboards for docs/ anew, from a live run
	scripts/previews.sh --gateway $(GATEWAY) --out docs/images

.PHONY: dashboards
dashboards: ## Write the dashboards, the alert rules and their runbook from dashboards/source
	python3 dashboards/generate.py

.PHONY: test-llama
test-llama: setup-test build llama ## The official SDKs through the gateway on real llama-servers, and one of those killed
	GATEWAY=$(GATEWAY) scripts/test-llama.sh
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/chaos/run.py --llama --gateway $(GATEWAY) --requests 32 --at-once 8
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/doctor/run.py --gateway $(GATEWAY)
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/fleet/run.py --gateway $(GATEWAY)
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/spec/run.py --gateway $(GATEWAY)
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/bench/run.py --gateway $(GATEWAY)

.PHONY: test-templates
test-templates: setup-test build llama ## Agents' conversations, rendered by two strict chat templates on a real llama-server
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/templates/run.py --gateway $(GATEWAY) \
		Qwen3.5-4B Mistral-Small-3.2-24B-Instruct-2506

.PHONY: nightly
nightly: test test-statistics ## Long things: everything of `test`, then more cases of the property tests, repeated SDK runs, more chaos
	$(CARGO) clippy --locked --profile quick --manifest-path $(COUNT) --target-dir $(TARGET)/bench --all-targets -- -D warnings
	PROPTEST_CASES=20000 DROVER_STREAMS=200000 $(CARGO) test --locked --profile quick
	DROVER_TEST_PROFILE=quick DROVER_STREAMS=20000 scripts/sdk-streams.sh
	for round in 1 2 3; do GATEWAY=$(GATEWAY) scripts/test-llama.sh; done
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/templates/run.py --gateway $(GATEWAY) --all
	python3 tests/chaos/run.py --gateway $(GATEWAY) --requests 2000
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/chaos/run.py --llama --gateway $(GATEWAY) --requests 200
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/rollout/run.py --gateway $(GATEWAY)

##@ Measure

.PHONY: bench-latency
bench-latency: build ## What the gateway adds to a request, side by side with the same backend asked directly
	@$(CARGO) build --locked --release -q --manifest-path $(BENCH) --target-dir $(TARGET)/bench
	@$(TARGET)/bench/release/drover-bench-latency --gateway $(GATEWAY) --out bench/results/latency.json

.PHONY: bench-guards
bench-guards: setup ## What guards cost: instructions of a token and of a long turn (needs valgrind), and time
	@$(CARGO) build --locked --profile quick -q --manifest-path $(COUNT) --target-dir $(TARGET)/bench
	@mkdir -p bench/results
	@$(TARGET)/bench/quick/drover-bench-callgrind --out bench/results/callgrind.json
	@$(MAKE) --no-print-directory build
	@$(CARGO) build --locked --release -q --manifest-path $(BENCH) --target-dir $(TARGET)/bench
	@$(TARGET)/bench/release/drover-bench-latency --guards --gateway $(GATEWAY) --out bench/results/latency-guards.json

.PHONY: bench-observability
bench-observability: build ## What being seen costs: throughput with everything on and off, and a scrape of a large fleet (needs ab)
	@python3 bench/observability/run.py --gateway $(GATEWAY) --out bench/results/observability.json

.PHONY: bench-policy
bench-policy: build ## What policy costs where it has nothing to say, in time and instructions (needs valgrind); how fast audit logs are verified
	@python3 bench/policy/run.py --gateway $(GATEWAY) --out bench/results/policy.json

.PHONY: bench-fleet
bench-fleet: build llama ## How well prompts find their caches, against other routers, on simulated and on real servers
	scripts/routers.sh
	python3 bench/fleet/run.py --gateway $(GATEWAY)
	@set -a; eval "$$(scripts/llama.sh)"; python3 bench/fleet/run.py --gateway $(GATEWAY) --llama
	@set -a; eval "$$(scripts/llama.sh)"; python3 bench/fleet/run.py --gateway $(GATEWAY) --llama --cases 4 --cache-ram 28 --rounds 2

.PHONY: bench-fleet-large
bench-fleet-large: build ## The same on 64 simulated servers (about 20 minutes)
	scripts/routers.sh
	python3 bench/fleet/run.py --gateway $(GATEWAY) --servers 64 --only drover,smg,sglang-router,least-connections

.PHONY: bench-selection
bench-selection: setup ## What finding a backend costs among 64, with 100 and with 100,000 sessions
	$(CARGO) test --locked --profile quick --lib cost_of_a_selection -- --ignored --nocapture

.PHONY: bench-llama
bench-llama: build llama ## The same on a real llama-server: first token, and time between tokens
	@$(CARGO) build --locked --release -q --manifest-path $(BENCH) --target-dir $(TARGET)/bench
	@set -a; eval "$$(scripts/llama.sh)"; python3 scripts/llama_fleet.py run --count 1 --gateway $(GATEWAY) -- \
		$(TARGET)/bench/release/drover-bench-latency --attach --out bench/results/latency-llama.json

.PHONY: bench-spec
bench-spec: build llama ## Speculative profiles side by side on real llama-servers: artifact, report and plots
	@set -a; eval "$$(scripts/llama.sh)"; python3 tests/bench/run.py --gateway $(GATEWAY) --out bench/results/spec -- \
		--runs $(RUNS) --warmup 1 --max-tokens 96

.PHONY: bench-autotune
bench-autotune: build llama ## Look for the settings of ngram-mod on the small model of the tests, for up to half an hour
	@set -a; eval "$$(scripts/llama.sh)"; OMP_WAIT_POLICY=passive $(GATEWAY) bench autotune --server "$$LLAMA_SERVER" \
		--model "$$MODEL_SMOLLM2" --server-arg=-t --server-arg=1 --server-arg=-c --server-arg=4096 \
		--workload repetitive --max-tokens 96 --budget 30m --out bench/results/autotune

##@ Clean

.PHONY: clean
clean: ## Remove what was built here (the caches under ~/.cache/drover stay)
	$(CARGO) clean
