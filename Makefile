# One command for each chore. `make help` lists them.

SHELL := /bin/bash
export CC := ccache cc
export CXX := ccache c++
export CCACHE_MAXSIZE ?= 5G
# The compiled C++ is the same wherever the clone lies.
export CCACHE_NOHASHDIR := 1

PROFILE := --profile ci
TARGET := $(or $(CARGO_TARGET_DIR),target)

# The simulator has planted bugs compiled in, so it lies in a folder of its own. SIM_PROFILE=--release, or nothing for a
# debug build: the traces are the same.
SIM_PROFILE ?= $(PROFILE)
SIM_TARGET := $(TARGET)/planted
SIM = $(SIM_TARGET)/$(or $(lastword $(subst --release,release,$(subst --profile ,,$(SIM_PROFILE)))),debug)/sim
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo none)

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

.PHONY: files
files: setup ## Several gigabytes through pipes and real nodes, in constant memory (GIB=3)
	cargo build --workspace --bins $(PROFILE)
	CLAVIGER_FILES_GIB=$(or $(GIB),3) cargo test $(PROFILE) -p claviger-jepsen --test files

.PHONY: lint
lint: setup ## Format, clippy with warnings as errors, house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(PROFILE) -- -D warnings

# Taken out of its package by .ci/setup, unless it is installed.
PROMTOOL = $(or $(wildcard $(TARGET)/tools/promtool),promtool)

.PHONY: deploy-check
deploy-check: setup ## Alert rules and their tests, dashboard, compose file, shell scripts: all held to the source
	$(PROMTOOL) check rules deploy/prometheus/claviger.rules.yml
	$(PROMTOOL) test rules deploy/prometheus/claviger.rules.test.yml
	/usr/bin/python3 deploy/check.py $(PROMTOOL)
	shellcheck .ci/run .ci/setup deploy/*.sh docs/*.sh sim/fuzz/run
	deploy/rolling-restart.test.sh

.PHONY: sim
sim: sim-build ## The whole cluster in a simulated world, 8 minutes of seeds (SEED=n replays one, MINUTES=m takes longer)
ifdef SEED
	$(SIM) --seed $(SEED) $(if $(WITHOUT),--without $(WITHOUT)) $(if $(UNTIL),--until $(UNTIL)) $(if $(MUTANT),--mutant $(MUTANT)) $(if $(TRACE),--trace $(TRACE)) $(if $(CANARY),--canary)
else ifdef MINUTES
	$(SIM) --minutes $(MINUTES) --seeds sim/seeds.txt --twice 3 --from $(COMMIT)-$(MINUTES)
else
	$(SIM) --minutes 8 --at-least 60 --seeds sim/seeds.txt --twice 3 --from $(COMMIT)
endif

.PHONY: mutants
mutants: sim-build ## Is every planted bug found, by which seed and promise? (NAMES=a,b for some of them)
	$(SIM) --mutants $(NAMES)

.PHONY: sim-some
sim-some: sim-build ## The canary, which must be red, and two planted bugs that change with the commit
	@if $(SIM) --seed 1 --until 30 --canary > $(SIM_TARGET)/canary.txt; then echo "the canary was not told"; exit 1; fi
	@grep -q '^replay: make sim SEED=1' $(SIM_TARGET)/canary.txt && echo "the canary was told"
	$(SIM) --mutants --some 2 --from $(COMMIT)

.PHONY: sim-bench
sim-bench: sim-build ## Simulated seconds per second of processor time
	$(SIM) --bench 10

.PHONY: sim-build
sim-build: setup
	CARGO_TARGET_DIR=$(SIM_TARGET) cargo build -p claviger-sim --bin sim --features mutants $(SIM_PROFILE)

.PHONY: powercut
powercut: setup ## The power goes under three real nodes, again and again (root; N=20 cuts, SEED=n, ONLY=cuts|liars|damage)
	cargo build --workspace --bins $(PROFILE)
	$(TARGET)/ci/powercut --cuts $(or $(N),20) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

# The release profile: `ci` has assertions on, those of openraft among them. The foreign C and C++ has one
# set of flags in both, and comes out of the compiler cache.
.PHONY: bench
bench: setup ## What operations cost, against an empty call and stream, and etcd: a table and bench.json, ten minutes (ONLY=calls|bulk|writes|failover|growth)
	cargo build --workspace --bins --release
	PATH="$(TARGET)/tools:$$PATH" $(TARGET)/release/bench --out $(TARGET)/bench.json $(if $(ONLY),--only $(ONLY))

# libFuzzer with the compiler as it is: coverage is a matter of stable flags, and only sanitizers want a nightly one, which
# find nothing in code without `unsafe`. The flags are for the target alone, so that build scripts go without, and have a
# folder of their own.
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_TARGET_DIR := $(TARGET)/fuzz
FUZZ = $(FUZZ_TARGET_DIR)/$(FUZZ_HOST)/ci/fuzz
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

.PHONY: fuzz
fuzz: fuzz-build ## Every parser that a stranger reaches, a minute each (SECONDS=n or MINUTES=n; NAME=x takes one, with INPUT=file replays)
	@sim/fuzz/run $(FUZZ) $(or $(SECONDS),$(if $(MINUTES),$(MINUTES)*60,60)) "$(NAME)" "$(INPUT)"

.PHONY: fuzz-build
fuzz-build: setup
	CARGO_TARGET_DIR=$(FUZZ_TARGET_DIR) RUSTFLAGS="$(FUZZ_FLAGS)" \
		cargo build -p claviger-fuzz --bin fuzz --features search --target $(FUZZ_HOST) $(PROFILE)

# Built into a folder that outlives the clone; a bump of the version installs it anew. Not part of `make ci`: a first build of it
# takes as long as one of ours.
DENY_VERSION := 0.20.2
DENY = $(TARGET)/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

.PHONY: deny
deny: $(DENY) ## Licences, bans and sources of the dependency tree
	$(DENY) --all-features check bans licenses sources

$(DENY):
	CARGO_TARGET_DIR=$(TARGET)/tools/build cargo install --locked cargo-deny@$(DENY_VERSION) --root $(TARGET)/tools/cargo-deny-$(DENY_VERSION)
	rm -rf $(TARGET)/tools/build

.PHONY: ci
ci: setup ## Everything that must be green: lints, deploy files, tests, demo, simulator, planted bugs
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory deploy-check
	$(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory demo
	$(MAKE) --no-print-directory sim
	$(MAKE) --no-print-directory sim-some

.PHONY: clean
clean: ## Remove what was built
	cargo clean
