# `make help` lists everything. Needs Rust and root or sudo; the rest is installed where it is missing.
# The private RabbitMQ and PostgreSQL live under .local/ (deploy/local/stack.sh); KURIR_AMQP_URL and KURIR_DATABASE_URL replace them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin
# A test run writes no snapshot files.
export INSTA_UPDATE ?= no

STACK := deploy/local/stack.sh
# CI builds exactly what Cargo.lock says.
LOCKED := $(if $(CI),--locked)
# make test ARGS='-p sync random_schedules'
ARGS ?= --workspace

.PHONY: help bench demo test dev lint advisories ci build schemas guards chaos chaos-smoke load-dead-letters monitoring load-noisy load-suspended stack-up stack-down stack-test clean tools

help: ## This list
	@echo 'make <target>:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: build ## A day of a shop's events from the CRM to Metakocka, then what happened (DEMO_SEED=n another day, KEEP=1 keeps it running)
	@$(STACK) run deploy/local/demo.sh

test: tools ## All tests, with real servers (ARGS='-p store' only some)
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(STACK) run bash -euo pipefail -c 'cargo nextest run $(LOCKED) $(if $(CI),--profile ci) $(ARGS) && $(if $(filter --workspace,$(ARGS)),cargo test -q $(LOCKED) --workspace --doc,true)'; \
	else \
	  echo 'cargo-nextest is not installed (cargo install --locked cargo-nextest), using cargo test'; \
	  $(STACK) run cargo test $(LOCKED) $(ARGS) -- --skip monitoring::live; \
	fi

# The whole workspace is named, so that what make test has built is not built once more.
monitoring: tools ## Alerts, runbooks, dashboards: promtool's checks and tests, then every expression asked of a running fleet
	@$(STACK) monitoring-tools
	@promtool=$${PROMETHEUS_BIN:-/usr/bin}/promtool; cd deploy/monitoring; \
	  $$promtool check rules --lint=all --lint-fatal alerts.yaml; $$promtool check config prometheus.yaml; $$promtool test rules alerts.test.yaml
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(STACK) run cargo nextest run $(LOCKED) --workspace --ignore-default-filter -E 'package(kurir) & test(/^monitoring::/)'; \
	else $(STACK) run cargo test $(LOCKED) -p kurir --test it monitoring::; fi

dev: build ## Everything on this machine: servers, simulators, all roles in one process; ctrl-C stops it
	@$(STACK) run deploy/local/dev.sh

lint: tools ## Format, clippy (also of what images hold), rustdoc; shellcheck and cargo-deny where installed
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) -p kurir --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc -q $(LOCKED) --workspace --no-deps
	@if command -v shellcheck >/dev/null; then shellcheck -x .ci/run $$(find deploy load-tests -name '*.sh'); \
	  else echo 'skipped: shellcheck is not installed (apt-get install shellcheck)'; fi
	@if command -v cargo-deny >/dev/null; then cargo deny --locked --config deploy/ci/deny.toml check bans licenses sources; \
	  else echo 'skipped: cargo-deny is not installed (cargo install --locked cargo-deny)'; fi

advisories: ## cargo-deny against the RustSec database (fetched from GitHub)
	cargo deny --locked --config deploy/ci/deny.toml check advisories

# All schedules; make test walks fewer.
ci: export SEEDS ?= 10000
ci: export SQL_SEEDS ?= 500
ci: lint test monitoring demo stack-test ## What CI runs: lint, all tests, alerts and dashboards, the demo, the local stack's own tests
	@changed=$$(git status --porcelain 2>/dev/null || true); \
	  if [ -n "$(CI)" ] && [ -n "$$changed" ]; then echo "changed files are left behind:"; echo "$$changed"; exit 1; fi

build: tools ## The kurir binary, target/debug/kurir
	cargo build $(LOCKED) -p kurir

schemas: tools ## Write schemas/ anew from the Rust types
	cargo run -q $(LOCKED) -p event --example schemas

guards: tools ## Take out each guard of the link engine in turn: the random schedules must notice (15 minutes)
	@$(STACK) run load-tests/guards.py

load-noisy: build ## One noisy tenant beside nine quiet ones: delays, share of its budget, cost of leasing (2 minutes)
	@$(STACK) run load-tests/noisy.py

load-suspended: build ## 50 000 events behind a suspended connection, then its repair (2 minutes)
	@$(STACK) run load-tests/suspended.py

load-dead-letters: tools ## 100 000 dead letters: times of lists and searches, memory of a replay, 1 000 that die while Postgres is down (4 minutes)
	@$(STACK) run cargo bench -q $(LOCKED) --profile dev -p kurir --bench dead_letters

chaos: tools ## Kill, freeze and cut everything at random, then compare every record (SEED=7 MINUTES=3 SEEDS=1 SCENARIO=everything JSON=1; docs/chaos.md)
	@$(STACK) run cargo bench -q $(LOCKED) --profile dev -p kurir --bench chaos -- $(if $(JSON),--json)

chaos-smoke: tools ## Half a minute of it, always the same one (2 minutes)
	@$(STACK) run cargo bench -q $(LOCKED) --profile dev -p kurir --bench chaos -- --seed 1 --minutes 0.5

bench: tools ## Speeds and costs beside bare consumers and a hand-written loop: a table, target/benchmark/ (10 minutes after the build; ONLY=empty,full, QUICK=1, JSON=1)
	@cargo bench -q $(LOCKED) --no-run -p kurir --bench bench
	@$(STACK) run cargo bench -q $(LOCKED) -p kurir --bench bench -- $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(JSON),--json)

stack-up: ## Start the private servers and leave them running; addresses in .local/env.sh
	@$(STACK) up

stack-down: ## Stop them
	@$(STACK) down

stack-test: ## Test the scripts in deploy/local
	deploy/local/stack-test.sh

clean: ## Stop the private servers, delete their data and target/
	@$(STACK) wipe
	rm -rf target

tools:
	@$(STACK) tools
