# One command for each chore. `make help` lists them.

SHELL := /bin/bash
export CC := ccache cc
export CXX := ccache c++
export CCACHE_MAXSIZE ?= 5G
# The compiled C++ is the same wherever the clone lies.
export CCACHE_NOHASHDIR := 1

PROFILE := --profile ci
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing through apt; do nothing when all is there
	@.ci/setup

.PHONY: build
build: setup ## Build everything that tests and the demo use
	cargo build --workspace --all-targets $(PROFILE)

.PHONY: demo
demo: setup ## Three node processes, a ceremony, keys, a killed leader: a story that checks itself (KEEP=1 leaves it running)
	cargo build --workspace --bins $(PROFILE)
	$(TARGET)/ci/claviger-demo

.PHONY: test
test: setup ## All tests (no network, no containers)
	cargo build --workspace --bins $(PROFILE)
	cargo test --workspace $(PROFILE) --no-fail-fast

.PHONY: lint
lint: setup ## Format, clippy with warnings as errors, house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(PROFILE) -- -D warnings

.PHONY: sim-smoke
sim-smoke: setup ## 20 seeds of the ledger on three in-memory nodes, each in two processes with equal traces
	cargo build -p claviger-sim --bin sim-smoke $(PROFILE)
	$(TARGET)/ci/sim-smoke --seeds 1..=20 --check-equal

.PHONY: deny
deny: ## Licences and bans of the dependency tree (needs cargo-deny)
	cargo deny check bans licenses sources

.PHONY: ci
ci: setup ## Everything that must be green: lints, tests, simulator smoke, demo, each timed
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory sim-smoke
	$(MAKE) --no-print-directory demo
	$(MAKE) --no-print-directory test

.PHONY: clean
clean: ## Remove what was built
	cargo clean
